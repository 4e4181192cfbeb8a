//! Types of columns in DDL: Athena's text to Iceberg's types and back.

use crate::QueryError;
use arrow::datatypes::{DataType, TimeUnit};
use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, StructType, Type};
use std::sync::Arc;

/// Hands out field ids.
#[derive(Debug, Default)]
pub(crate) struct Ids(i32);

impl Ids {
    pub(crate) fn next(&mut self) -> i32 {
        self.0 += 1;
        self.0
    }
}

/// Nesting of types.
const DEPTH_MAX: usize = 16;

/// Reads a type such as `map<string,array<int>>`, `row(a bigint, b varchar)` or `decimal(12,2)`.
pub(crate) fn parse(text: &str, ids: &mut Ids) -> Result<Type, QueryError> {
    let mut reader = Reader { rest: text.trim(), whole: text };
    let parsed = reader.read(ids, 0)?;
    if reader.rest.trim().is_empty() { Ok(parsed) } else { reader.bad() }
}

struct Reader<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Reader<'_> {
    fn bad<T>(&self) -> Result<T, QueryError> {
        Err(QueryError::Unsupported(format!(
            "the column type '{}' is not supported for Iceberg tables",
            self.whole.trim()
        )))
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let quoted = self.rest.strip_prefix(['"', '`']);
        if let Some(inner) = quoted
            && let Some(end) = inner.find(['"', '`'])
        {
            self.rest = &inner[end + 1..];
            return inner[..end].to_lowercase();
        }
        let end =
            self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_lowercase()
    }

    fn accept(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn open(&mut self) -> Result<char, QueryError> {
        if self.accept('<') {
            Ok('>')
        } else if self.accept('(') {
            Ok(')')
        } else {
            self.bad()
        }
    }

    fn close(&mut self, token: char) -> Result<(), QueryError> {
        if self.accept(token) { Ok(()) } else { self.bad() }
    }

    fn numbers(&mut self) -> Result<Vec<u32>, QueryError> {
        let mut found = Vec::new();
        if self.accept('(') {
            loop {
                let Ok(number) = self.word().parse() else { return self.bad() };
                found.push(number);
                if !self.accept(',') {
                    break;
                }
            }
            self.close(')')?;
        }
        Ok(found)
    }

    fn read(&mut self, ids: &mut Ids, depth: usize) -> Result<Type, QueryError> {
        if depth > DEPTH_MAX {
            return self.bad();
        }
        let primitive = match self.word().as_str() {
            "boolean" => PrimitiveType::Boolean,
            "int" | "integer" => PrimitiveType::Int,
            "bigint" | "long" => PrimitiveType::Long,
            "float" | "real" => PrimitiveType::Float,
            "double" => {
                let before = self.rest;
                if self.word() != "precision" {
                    self.rest = before;
                }
                PrimitiveType::Double
            }
            "string" => PrimitiveType::String,
            "varchar" => {
                self.numbers()?;
                PrimitiveType::String
            }
            "date" => PrimitiveType::Date,
            "binary" | "varbinary" => PrimitiveType::Binary,
            "uuid" => PrimitiveType::Uuid,
            "timestamptz" => PrimitiveType::Timestamptz,
            "timestamp" => return self.timestamp(),
            "decimal" | "numeric" => return self.decimal(),
            "array" => return self.list(ids, depth),
            "map" => return self.map(ids, depth),
            "struct" | "row" => return self.fields(ids, depth),
            _ => return self.bad(),
        };
        Ok(Type::Primitive(primitive))
    }

    fn timestamp(&mut self) -> Result<Type, QueryError> {
        if self.numbers()?.first().is_some_and(|digits| *digits > 6) {
            return self.bad();
        }
        let before = self.rest;
        let zone = self.word() == "with";
        if zone {
            let words = [self.word(), self.word()];
            if words != ["time", "zone"] {
                return self.bad();
            }
            return Ok(Type::Primitive(PrimitiveType::Timestamptz));
        }
        self.rest = before;
        Ok(Type::Primitive(PrimitiveType::Timestamp))
    }

    fn decimal(&mut self) -> Result<Type, QueryError> {
        let (precision, scale) = match self.numbers()?.as_slice() {
            [] => (38, 0),
            [precision] => (*precision, 0),
            [precision, scale] => (*precision, *scale),
            _ => return self.bad(),
        };
        if !(1..=38).contains(&precision) || scale > precision {
            return self.bad();
        }
        Ok(Type::Primitive(PrimitiveType::Decimal { precision, scale }))
    }

    fn list(&mut self, ids: &mut Ids, depth: usize) -> Result<Type, QueryError> {
        let end = self.open()?;
        let id = ids.next();
        let element = self.read(ids, depth + 1)?;
        self.close(end)?;
        Ok(Type::List(ListType::new(Arc::new(NestedField::list_element(id, element, false)))))
    }

    fn map(&mut self, ids: &mut Ids, depth: usize) -> Result<Type, QueryError> {
        let end = self.open()?;
        let (key_id, value_id) = (ids.next(), ids.next());
        let key = self.read(ids, depth + 1)?;
        self.close(',')?;
        let value = self.read(ids, depth + 1)?;
        self.close(end)?;
        Ok(Type::Map(MapType::new(
            Arc::new(NestedField::map_key_element(key_id, key)),
            Arc::new(NestedField::map_value_element(value_id, value, false)),
        )))
    }

    fn fields(&mut self, ids: &mut Ids, depth: usize) -> Result<Type, QueryError> {
        let end = self.open()?;
        let mut fields = Vec::new();
        loop {
            let id = ids.next();
            let name = self.word();
            let _ = self.accept(':');
            if name.is_empty() {
                return self.bad();
            }
            let of = self.read(ids, depth + 1)?;
            fields.push(Arc::new(NestedField::optional(id, name, of)));
            if !self.accept(',') {
                break;
            }
        }
        self.close(end)?;
        Ok(Type::Struct(StructType::new(fields)))
    }
}

/// A type as `DESCRIBE` and Glue write it (Hive's words).
pub fn hive_type(of: &Type) -> String {
    match of {
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => "boolean".into(),
            PrimitiveType::Int => "int".into(),
            PrimitiveType::Long => "bigint".into(),
            PrimitiveType::Float => "float".into(),
            PrimitiveType::Double => "double".into(),
            PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            PrimitiveType::Date => "date".into(),
            PrimitiveType::Time => "time".into(),
            PrimitiveType::Timestamp | PrimitiveType::TimestampNs => "timestamp".into(),
            PrimitiveType::Timestamptz | PrimitiveType::TimestamptzNs => {
                "timestamp with time zone".into()
            }
            PrimitiveType::String => "string".into(),
            PrimitiveType::Uuid => "uuid".into(),
            PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary".into(),
        },
        Type::Struct(fields) => {
            let inner: Vec<String> = fields
                .fields()
                .iter()
                .map(|f| format!("{}:{}", f.name, hive_type(&f.field_type)))
                .collect();
            format!("struct<{}>", inner.join(","))
        }
        Type::List(list) => format!("array<{}>", hive_type(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{},{}>",
            hive_type(&map.key_field.field_type),
            hive_type(&map.value_field.field_type)
        ),
    }
}

/// The Iceberg type of a query's column, for CTAS.
pub(crate) fn of_query(of: &DataType, ids: &mut Ids) -> Result<Type, QueryError> {
    let primitive = match of {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            PrimitiveType::Int
        }
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => PrimitiveType::Long,
        DataType::Float16 | DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Decimal128(p, s) | DataType::Decimal64(p, s) | DataType::Decimal32(p, s)
            if *s >= 0 =>
        {
            PrimitiveType::Decimal { precision: u32::from(*p), scale: s.unsigned_abs().into() }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => PrimitiveType::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PrimitiveType::Binary,
        DataType::FixedSizeBinary(16) => PrimitiveType::Uuid,
        DataType::Date32 => PrimitiveType::Date,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(_, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(_, Some(_)) => PrimitiveType::Timestamptz,
        DataType::List(item) | DataType::LargeList(item) => {
            let id = ids.next();
            let element = of_query(item.data_type(), ids)?;
            let field = NestedField::list_element(id, element, false);
            return Ok(Type::List(ListType::new(Arc::new(field))));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(kv) = entries.data_type() else {
                return Err(QueryError::Internal("a map without entries".into()));
            };
            let (key_id, value_id) = (ids.next(), ids.next());
            let key = of_query(kv[0].data_type(), ids)?;
            let value = of_query(kv[1].data_type(), ids)?;
            return Ok(Type::Map(MapType::new(
                Arc::new(NestedField::map_key_element(key_id, key)),
                Arc::new(NestedField::map_value_element(value_id, value, false)),
            )));
        }
        DataType::Struct(fields) => {
            let mut own = Vec::new();
            for field in fields {
                let id = ids.next();
                let of = of_query(field.data_type(), ids)?;
                own.push(Arc::new(NestedField::optional(id, field.name(), of)));
            }
            return Ok(Type::Struct(StructType::new(own)));
        }
        other => {
            return Err(QueryError::Unsupported(format!(
                "a column of type {} cannot be stored; cast it",
                crate::render::trino_type(other)
            )));
        }
    };
    Ok(Type::Primitive(primitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_ddl_round_trip() {
        for (text, expected) in [
            ("bigint", "bigint"),
            ("INTEGER", "int"),
            ("decimal( 12 , 2 )", "decimal(12,2)"),
            ("varchar(20)", "string"),
            ("map<string,array<int>>", "map<string,array<int>>"),
            ("struct<a:int,b:struct<c:double>>", "struct<a:int,b:struct<c:double>>"),
            ("row(a bigint, b array(varchar))", "struct<a:bigint,b:array<string>>"),
            ("timestamp(6) with time zone", "timestamp with time zone"),
            ("double precision", "double"),
        ] {
            let parsed = parse(text, &mut Ids::default()).unwrap();
            assert_eq!(hive_type(&parsed), expected);
        }
    }

    #[test]
    fn types_that_iceberg_has_not_are_refused() {
        for text in ["tinyint", "char(3)", "time", "map<int>", "array<int", "decimal(40,2)", ""] {
            let refused = parse(text, &mut Ids::default());
            assert!(matches!(refused, Err(QueryError::Unsupported(_))), "{text}");
        }
        let deep = "array<".repeat(100) + "int" + &">".repeat(100);
        assert!(parse(&deep, &mut Ids::default()).is_err());
    }
}
