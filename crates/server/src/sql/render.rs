//! Rows as text.

use super::Format;
use serde_json::Value;

/// The rows of an answer, as Athena's text of each value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    columns: Vec<String>,
    types: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Adds a page of `GetQueryResults`.
    pub(super) fn add_page(&mut self, page: &Value, skip_first: bool) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        if self.columns.is_empty() {
            let text =
                |column: &Value, name: &str| column[name].as_str().unwrap_or_default().to_string();
            let info = list(&page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]);
            self.columns = info.iter().map(|column| text(column, "Name")).collect();
            self.types = info.iter().map(|column| text(column, "Type")).collect();
        }
        for row in list(&page["ResultSet"]["Rows"]).iter().skip(usize::from(skip_first)) {
            let values = list(&row["Data"]);
            let text = |value: &Value| value["VarCharValue"].as_str().map(str::to_string);
            self.rows.push(values.iter().map(text).collect());
        }
    }

    /// The text to print.
    pub(super) fn print(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        }
    }

    fn table(&self) -> String {
        if self.columns.is_empty() && self.rows.is_empty() {
            return String::new();
        }
        let mut widths: Vec<usize> = self.columns.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (index, value) in row.iter().enumerate() {
                let width = value.as_deref().unwrap_or("NULL").chars().count();
                match widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
        }
        let line = |values: &[&str]| {
            let cells = values.iter().zip(&widths).enumerate().map(|(index, (value, &width))| {
                if self.types.get(index).is_some_and(|kind| is_number(kind)) {
                    format!("{value:>width$}")
                } else {
                    format!("{value:<width$}")
                }
            });
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        let mut out = String::new();
        if !self.columns.is_empty() {
            out.push_str(&line(&self.columns.iter().map(String::as_str).collect::<Vec<_>>()));
            let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            out.push_str(&line(&rules.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        for row in &self.rows {
            let row: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
            out.push_str(&line(&row));
        }
        out
    }

    fn csv(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut lines: Vec<String> = Vec::with_capacity(self.rows.len() + 1);
        lines.push(self.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","));
        for row in &self.rows {
            let row = row.iter().map(|value| value.as_deref().map(quoted).unwrap_or_default());
            lines.push(row.collect::<Vec<_>>().join(","));
        }
        lines.join("\n") + "\n"
    }

    fn json(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let mut object = serde_json::Map::new();
            for (index, value) in row.iter().enumerate() {
                let name = self.columns.get(index).cloned();
                let kind = self.types.get(index).map(String::as_str).unwrap_or_default();
                let value = value.as_deref().map_or(Value::Null, |text| typed(kind, text));
                object.insert(name.unwrap_or_else(|| format!("_col{index}")), value);
            }
            out.push_str(&Value::Object(object).to_string());
            out.push('\n');
        }
        out
    }
}

fn is_number(kind: &str) -> bool {
    matches!(
        kind,
        "tinyint" | "smallint" | "integer" | "bigint" | "float" | "real" | "double" | "decimal"
    )
}

/// Numbers and booleans as such where JSON can hold them exactly; everything else as Athena's text.
fn typed(kind: &str, text: &str) -> Value {
    let parsed = match kind {
        "boolean" => text.parse().ok().map(Value::Bool),
        "tinyint" | "smallint" | "integer" | "bigint" => text.parse::<i64>().ok().map(Value::from),
        "float" | "real" | "double" => {
            text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows() -> Rows {
        let mut rows = Rows::default();
        rows.add_page(
            &json!({"ResultSet": {
                "ResultSetMetadata": {"ColumnInfo": [
                    {"Name": "name", "Type": "varchar"}, {"Name": "n", "Type": "bigint"}]},
                "Rows": [
                    {"Data": [{"VarCharValue": "name"}, {"VarCharValue": "n"}]},
                    {"Data": [{"VarCharValue": "a \"b\""}, {"VarCharValue": "12"}]},
                    {"Data": [{}, {"VarCharValue": "3"}]}]}}),
            true,
        );
        rows
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        assert_eq!(rows().print(Format::Table), "name    n\n-----  --\na \"b\"  12\nNULL    3\n");
    }

    #[test]
    fn csv_quotes_values_and_leaves_nulls_empty() {
        assert_eq!(rows().print(Format::Csv), "\"name\",\"n\"\n\"a \"\"b\"\"\",\"12\"\n,\"3\"\n");
    }

    #[test]
    fn json_has_one_object_a_line() {
        assert_eq!(
            rows().print(Format::Json),
            "{\"n\":12,\"name\":\"a \\\"b\\\"\"}\n{\"n\":3,\"name\":null}\n"
        );
    }
}
