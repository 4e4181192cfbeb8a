//! From method and path to an operation.

use super::error::{bad_request, unsupported};
use alluvium_wire::{Problem, rest_json};
use http::Method;

/// A namespace as it stands in a path: its levels.
pub(super) type Levels = Vec<String>;

/// A table's name in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TablePath {
    pub(super) namespace: Levels,
    pub(super) name: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Config,
    ListNamespaces,
    CreateNamespace,
    LoadNamespace { namespace: Levels },
    NamespaceExists { namespace: Levels },
    DropNamespace { namespace: Levels },
    UpdateNamespace { namespace: Levels },
    ListTables { namespace: Levels },
    CreateTable { namespace: Levels },
    RegisterTable { namespace: Levels },
    LoadTable { table: TablePath },
    TableExists { table: TablePath },
    CommitTable { table: TablePath },
    DropTable { table: TablePath },
    RenameTable,
    CommitTransaction,
}

/// An operation and the warehouse that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Decoded: a table bucket's ARN or a Glue catalog id. Empty for `config`.
    pub(super) prefix: String,
    pub(super) operation: Operation,
}

/// The separator of levels in a path (percent-encoded as `%1F`).
const LEVEL_SEPARATOR: char = '\u{1f}';

/// What the catalog can do, in the form of the specification's `endpoints`.
pub(super) const ENDPOINTS: &[&str] = &[
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
];

/// Whether this is where a token is asked for.
pub(super) fn is_token_endpoint(path: &str) -> bool {
    path == "/iceberg/v1/oauth/tokens"
}

impl Route {
    /// The operation of a method and a path.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let rest = path.strip_prefix("/iceberg/v1/").unwrap_or_default();
        let decoded = rest_json::segments(rest).map_err(|p| bad_request(p.message))?;
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let unknown = || {
            let path: String = path.chars().take(256).collect();
            unsupported(format!("operation {method} {path}"))
        };
        if segments == ["config"] && method == Method::GET {
            return Ok(Self { prefix: String::new(), operation: Operation::Config });
        }
        let Some((prefix, rest)) = segments.split_first() else { return Err(unknown()) };
        let operation = operation(method, rest).ok_or_else(unknown)?;
        Ok(Self { prefix: (*prefix).to_string(), operation })
    }
}

fn operation(method: &Method, rest: &[&str]) -> Option<Operation> {
    let levels = |text: &str| -> Levels { text.split(LEVEL_SEPARATOR).map(String::from).collect() };
    Some(match (method.as_str(), rest) {
        ("GET", ["namespaces"]) => Operation::ListNamespaces,
        ("POST", ["namespaces"]) => Operation::CreateNamespace,
        ("GET", ["namespaces", n]) => Operation::LoadNamespace { namespace: levels(n) },
        ("HEAD", ["namespaces", n]) => Operation::NamespaceExists { namespace: levels(n) },
        ("DELETE", ["namespaces", n]) => Operation::DropNamespace { namespace: levels(n) },
        ("POST", ["namespaces", n, "properties"]) => {
            Operation::UpdateNamespace { namespace: levels(n) }
        }
        ("GET", ["namespaces", n, "tables"]) => Operation::ListTables { namespace: levels(n) },
        ("POST", ["namespaces", n, "tables"]) => Operation::CreateTable { namespace: levels(n) },
        ("POST", ["namespaces", n, "register"]) => {
            Operation::RegisterTable { namespace: levels(n) }
        }
        (verb, ["namespaces", n, "tables", name]) => {
            let table = TablePath { namespace: levels(n), name: (*name).to_string() };
            match verb {
                "GET" => Operation::LoadTable { table },
                "HEAD" => Operation::TableExists { table },
                "POST" => Operation::CommitTable { table },
                "DELETE" => Operation::DropTable { table },
                _ => return None,
            }
        }
        ("POST", ["tables", "rename"]) => Operation::RenameTable,
        ("POST", ["transactions", "commit"]) => Operation::CommitTransaction,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_with_encoded_slashes_stay_whole() {
        let path =
            "/iceberg/v1/arn%3Aaws%3As3tables%3Aus-east-1%3A0%3Abucket%2Fb/namespaces/n/tables/t";
        let route = Route::of(&Method::GET, path).unwrap();
        assert_eq!(route.prefix, "arn:aws:s3tables:us-east-1:0:bucket/b");
        let table = TablePath { namespace: vec!["n".into()], name: "t".into() };
        assert_eq!(route.operation, Operation::LoadTable { table });
    }

    #[test]
    fn levels_are_split_at_the_unit_separator() {
        let route = Route::of(&Method::GET, "/iceberg/v1/p/namespaces/a%1Fb").unwrap();
        let namespace = vec!["a".to_string(), "b".to_string()];
        assert_eq!(route.operation, Operation::LoadNamespace { namespace });
    }

    #[test]
    fn what_is_not_there_is_refused_by_its_name() {
        for (method, path) in [
            (Method::GET, "/iceberg/v1/p/namespaces/n/views"),
            (Method::POST, "/iceberg/v1/p/namespaces/n/tables/t/plan"),
            (Method::PATCH, "/iceberg/v1/p/namespaces/n/tables/t"),
            (Method::GET, "/iceberg/v2/p/namespaces"),
            (Method::GET, "/iceberg"),
        ] {
            let problem = Route::of(&method, path).unwrap_err();
            assert!(problem.message.contains(path), "{}", problem.message);
        }
    }
}
