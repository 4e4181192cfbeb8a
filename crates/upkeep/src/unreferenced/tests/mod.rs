//! Nothing that anybody needs is removed, and what nobody needs goes in the end.

mod bench;
mod dropped;
mod model;
mod needed;
mod phases;
mod reading;
