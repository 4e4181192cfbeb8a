//! serde's side of writing.

use super::{CborError, EPOCH_MS, Writer};
use serde::ser::{Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple};
use serde::{Serialize, ser};

/// A value's CBOR.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let mut writer = Writer::default();
    writer.item(value)?;
    Ok(writer.into_bytes())
}

#[derive(Debug)]
pub(super) struct Serializer<'a> {
    pub(super) writer: &'a mut Writer,
}

/// A list or a map that is being written.
#[derive(Debug)]
pub(super) struct Collection<'a> {
    writer: &'a mut Writer,
    /// Its length was not known: it has an end.
    open: bool,
}

impl Collection<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        self.writer.item(value)
    }

    fn close(self) {
        if self.open {
            self.writer.end();
        }
    }
}

fn none<T>(what: &str) -> Result<T, CborError> {
    Err(CborError::Shape(format!("{what} has no place in an AWS shape")))
}

macro_rules! numbers {
    ($($method:ident($kind:ty) => $write:ident;)*) => {
        $(fn $method(self, value: $kind) -> Result<(), CborError> {
            self.writer.$write(value.into());
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for Serializer<'a> {
    type Ok = ();
    type Error = CborError;
    type SerializeSeq = Collection<'a>;
    type SerializeTuple = Collection<'a>;
    type SerializeTupleStruct = Impossible<(), CborError>;
    type SerializeTupleVariant = Impossible<(), CborError>;
    type SerializeMap = Collection<'a>;
    type SerializeStruct = Collection<'a>;
    type SerializeStructVariant = Impossible<(), CborError>;

    numbers! {
        serialize_i8(i8) => signed;
        serialize_i16(i16) => signed;
        serialize_i32(i32) => signed;
        serialize_i64(i64) => signed;
        serialize_u8(u8) => unsigned;
        serialize_u16(u16) => unsigned;
        serialize_u32(u32) => unsigned;
        serialize_u64(u64) => unsigned;
        serialize_f32(f32) => float;
        serialize_f64(f64) => float;
        serialize_bool(bool) => bool;
    }

    fn serialize_char(self, value: char) -> Result<(), CborError> {
        self.writer.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), CborError> {
        self.writer.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CborError> {
        self.writer.bytes(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CborError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CborError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CborError> {
        self.writer.null();
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), CborError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), CborError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), CborError> {
        if name == EPOCH_MS {
            self.writer.epoch_tag();
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CborError> {
        self.writer.map(1);
        self.writer.text(variant);
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Collection<'a>, CborError> {
        match length {
            Some(length) => self.writer.list(length),
            None => self.writer.open_list(),
        }
        Ok(Collection { writer: self.writer, open: length.is_none() })
    }

    fn serialize_tuple(self, length: usize) -> Result<Collection<'a>, CborError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleStruct, CborError> {
        none("a tuple struct")
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, CborError> {
        none("a tuple variant")
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Collection<'a>, CborError> {
        match length {
            Some(length) => self.writer.map(length),
            None => self.writer.open_map(),
        }
        Ok(Collection { writer: self.writer, open: length.is_none() })
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<Collection<'a>, CborError> {
        self.serialize_map(Some(length))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, CborError> {
        none("a struct variant")
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl SerializeSeq for Collection<'_> {
    type Ok = ();
    type Error = CborError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        self.item(value)
    }

    fn end(self) -> Result<(), CborError> {
        self.close();
        Ok(())
    }
}

impl SerializeTuple for Collection<'_> {
    type Ok = ();
    type Error = CborError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        self.item(value)
    }

    fn end(self) -> Result<(), CborError> {
        self.close();
        Ok(())
    }
}

impl SerializeMap for Collection<'_> {
    type Ok = ();
    type Error = CborError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CborError> {
        self.item(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        self.item(value)
    }

    fn end(self) -> Result<(), CborError> {
        self.close();
        Ok(())
    }
}

impl SerializeStruct for Collection<'_> {
    type Ok = ();
    type Error = CborError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), CborError> {
        self.writer.text(name);
        self.item(value)
    }

    fn end(self) -> Result<(), CborError> {
        self.close();
        Ok(())
    }
}
