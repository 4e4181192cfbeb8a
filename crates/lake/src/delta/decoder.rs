//! Records with their operations into columns.

use super::{KeyColumns, RowOperation};
use crate::decode::{FinishError, RecordDecoder, RecordError, UnsupportedSchema};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use iceberg::spec::{Schema, Type, prune_columns};

/// Operations on a table's rows, in the order in which they came.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The rows of inserts and updates.
    pub(crate) rows: RecordBatch,
    /// The keys of deletes: the key's columns; `None` when there were no deletes.
    pub(crate) deletes: Option<RecordBatch>,
    /// One for each record; empty when all are inserts.
    pub(crate) operations: Vec<RowOperation>,
}

impl Changes {
    /// Rows to be added.
    pub fn inserts(rows: RecordBatch) -> Self {
        Self { rows, deletes: None, operations: Vec::new() }
    }

    /// How many records these were.
    pub fn records(&self) -> usize {
        if self.operations.is_empty() { self.rows.num_rows() } else { self.operations.len() }
    }
}

/// Decodes JSON records and remembers what each is to do. A delete needs the members of its key
/// and no others.
#[derive(Debug)]
pub struct ChangeDecoder {
    rows: RecordDecoder,
    keys: Option<Keys>,
    /// Empty as long as all records are inserts.
    operations: Vec<RowOperation>,
}

#[derive(Debug)]
struct Keys {
    columns: KeyColumns,
    /// Of the table's rows with nothing in them but the key's columns.
    decoder: RecordDecoder,
    /// Where they are in those rows.
    paths: Vec<Vec<usize>>,
    schema: SchemaRef,
}

impl ChangeDecoder {
    /// A decoder for a schema; without keys only inserts are taken.
    pub fn new(schema: &Schema, keys: Option<&KeyColumns>) -> Result<Self, UnsupportedSchema> {
        let rows = RecordDecoder::new(schema)?;
        let keys = keys.map(|columns| Keys::new(schema, columns)).transpose()?;
        Ok(Self { rows, keys, operations: Vec::new() })
    }

    /// From now on [`take_unknown`](Self::take_unknown) tells of members without a column.
    pub fn notice_unknown(&mut self) {
        self.rows.notice_unknown();
    }

    /// Whether a record that was pushed since the last call had a member that is not null and that
    /// no column takes.
    pub fn take_unknown(&mut self) -> bool {
        self.rows.take_unknown()
    }

    /// Records since the last [`finish`](Self::finish).
    pub fn records(&self) -> usize {
        self.rows.rows() + self.keys.as_ref().map_or(0, |keys| keys.decoder.rows())
    }

    /// Bytes of JSON that they came from.
    pub fn input_bytes(&self) -> usize {
        self.rows.input_bytes() + self.keys.as_ref().map_or(0, |keys| keys.decoder.input_bytes())
    }

    /// What they hold: their JSON and the nulls that they add.
    pub fn held_bytes(&self) -> usize {
        self.rows.held_bytes() + self.keys.as_ref().map_or(0, |keys| keys.decoder.held_bytes())
    }

    /// Appends one record whole, or nothing of it.
    pub fn push(&mut self, record: &[u8], operation: RowOperation) -> Result<(), RecordError> {
        match (operation, &mut self.keys) {
            (RowOperation::Insert, _) => self.rows.push(record)?,
            (_, None) => return Err(RecordError::no_key_columns()),
            (RowOperation::Update, Some(keys)) => {
                let columns = &keys.columns.columns;
                self.rows.push_keyed(record, columns.iter().map(|column| &*column.path))?;
            }
            (RowOperation::Delete, Some(keys)) => {
                let paths = keys.paths.iter().map(|path| &**path);
                // Here every column is one of the key.
                keys.decoder.push_keyed(record, paths).map_err(RecordError::of_key)?;
            }
        }
        if operation != RowOperation::Insert && self.operations.is_empty() {
            self.operations = vec![RowOperation::Insert; self.rows.rows()];
            if operation == RowOperation::Update {
                // The row itself is counted already.
                self.operations.pop();
            }
        }
        if operation != RowOperation::Insert || !self.operations.is_empty() {
            self.operations.push(operation);
        }
        Ok(())
    }

    /// Takes the changes out; the decoder is empty again.
    pub fn finish(&mut self) -> Result<Changes, FinishError> {
        let operations = std::mem::take(&mut self.operations);
        let deletes = match &mut self.keys {
            Some(keys) if keys.decoder.rows() > 0 => Some(keys.finish()?),
            _ => None,
        };
        Ok(Changes { rows: self.rows.finish()?, deletes, operations })
    }
}

impl Keys {
    fn new(schema: &Schema, columns: &KeyColumns) -> Result<Self, UnsupportedSchema> {
        let ids = columns.ids();
        let conversion = |error: iceberg::Error| UnsupportedSchema::conversion(&error);
        let pruned = match prune_columns(schema, ids.iter().copied(), false).map_err(conversion)? {
            Type::Struct(pruned) => pruned,
            other => return Err(UnsupportedSchema::not_a_struct(&other)),
        };
        let pruned =
            Schema::builder().with_fields(pruned.fields().to_vec()).build().map_err(conversion)?;
        let decoder = RecordDecoder::new(&pruned)?;
        let within = KeyColumns::of_ids(&pruned, ids);
        let within = within.map_err(|error| UnsupportedSchema::key(&error))?;
        let paths = within.columns.into_iter().map(|column| column.path).collect();
        Ok(Self { columns: columns.clone(), decoder, paths, schema: columns.arrow_schema() })
    }

    fn finish(&mut self) -> Result<RecordBatch, FinishError> {
        let rows = self.decoder.finish()?;
        let columns: Option<Vec<ArrayRef>> = self
            .paths
            .iter()
            .map(|path| crate::write::nested::column_at(rows.columns(), path))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = columns.unwrap_or_default();
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}
