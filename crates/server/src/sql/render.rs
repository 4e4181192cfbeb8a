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
        let columns: Vec<String> = self.columns.iter().map(|name| visible(name)).collect();
        let shown = |value: &Option<String>| value.as_deref().map_or("NULL".into(), visible);
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
        let mut widths: Vec<usize> = columns.iter().map(|name| name.chars().count()).collect();
        for row in &rows {
            for (index, value) in row.iter().enumerate() {
                let width = value.chars().count();
                match widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
        }
        let line = |values: &[String]| {
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
        if !columns.is_empty() {
            out.push_str(&line(&columns));
            let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            out.push_str(&line(&rules));
        }
        rows.iter().for_each(|row| out.push_str(&line(row)));
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
        let names = self.names();
        let mut out = String::new();
        for row in &self.rows {
            let members = row.iter().enumerate().map(|(index, value)| {
                let name = names.get(index).cloned().unwrap_or_else(|| format!("_col{index}"));
                let kind = self.types.get(index).map(String::as_str).unwrap_or_default();
                let value = value.as_deref().map_or(Value::Null, |text| typed(kind, text));
                format!("{}:{value}", Value::String(name))
            });
            out.push_str(&format!("{{{}}}\n", members.collect::<Vec<_>>().join(",")));
        }
        out
    }

    /// The columns' names, each once: an object cannot hold two members of one name.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let numbered = (1..).map(|number| format!("{column}_{number}"));
            let mut candidates = std::iter::once(column.clone()).chain(numbered);
            let free = candidates.find(|name| !names.contains(name));
            names.extend(free);
        }
        names
    }
}

/// A value on its one line: control characters escaped, as they would break it or drive the
/// terminal.
fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_string();
    }
    let escaped = text.chars().map(|letter| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    });
    escaped.collect()
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
            "{\"name\":\"a \\\"b\\\"\",\"n\":12}\n{\"name\":null,\"n\":3}\n"
        );
    }

    #[test]
    fn columns_of_one_name_are_all_in_the_json() {
        let mut rows = Rows::default();
        let names = ["a", "a", "a_1"].map(|name| json!({"Name": name, "Type": "bigint"}));
        let values = ["1", "2", "3"].map(|value| json!({"VarCharValue": value}));
        rows.add_page(
            &json!({"ResultSet": {
                "ResultSetMetadata": {"ColumnInfo": names}, "Rows": [{"Data": values}]}}),
            false,
        );
        assert_eq!(rows.print(Format::Json), "{\"a\":1,\"a_1\":2,\"a_1_1\":3}\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal_in_a_table() {
        let mut rows = Rows::default();
        rows.add_page(
            &json!({"ResultSet": {
                "ResultSetMetadata": {"ColumnInfo": [{"Name": "x", "Type": "varchar"}]},
                "Rows": [{"Data": [{"VarCharValue": "a\n\u{1b}[2J"}]}]}}),
            false,
        );
        assert_eq!(rows.print(Format::Table), "x\n------------\na\\n\\u{1b}[2J\n");
    }
}
