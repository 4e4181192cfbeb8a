//! The `iceberg` library's storage over `store::objects`: `s3://bucket/key` and nothing else.
//!
//! Every write through it is durable before it returns, because [`Objects`] is (DURABILITY
//! section 3). The live store is not serialisable: a deserialised adapter answers every call with
//! an error instead of guessing one.

use alluvium_store::objects::{Objects, ObjectsError, PutOptions, RangeOf};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// A [`FileIO`] over `objects`, for paths of the form `s3://bucket/key`.
pub fn file_io(objects: Arc<dyn Objects>) -> FileIO {
    FileIOBuilder::new(Arc::new(ObjectsStorage { objects: Some(objects) })).build()
}

/// Splits `s3://bucket/key`; the key may hold slashes and is not empty.
pub fn split_location(location: &str) -> Option<(&str, &str)> {
    let (bucket, key) = location.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}

/// The adapter: both the factory and the storage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ObjectsStorage {
    #[serde(skip, default)]
    objects: Option<Arc<dyn Objects>>,
}

fn failed(path: &str, error: ObjectsError) -> Error {
    let kind = match error {
        ObjectsError::BadKey(_) => ErrorKind::DataInvalid,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, error.to_string()).with_context("path", path).with_source(error)
}

impl ObjectsStorage {
    fn live(&self) -> Result<&Arc<dyn Objects>> {
        self.objects.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "storage was deserialised without its object store")
        })
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let (bucket, key) = parts(path)?;
        let put = self.live()?.put_bytes(bucket, key, bytes, PutOptions::default()).await;
        put.map(|_| ()).map_err(|e| failed(path, e))
    }
}

fn parts(path: &str) -> Result<(&str, &str)> {
    split_location(path).ok_or_else(|| {
        Error::new(ErrorKind::DataInvalid, format!("'{path}' is not of the form s3://bucket/key"))
    })
}

#[typetag::serde]
impl StorageFactory for ObjectsStorage {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
#[typetag::serde]
impl Storage for ObjectsStorage {
    async fn exists(&self, path: &str) -> Result<bool> {
        let (bucket, key) = parts(path)?;
        match self.live()?.head(bucket, key).await {
            Ok(_) => Ok(true),
            Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => Ok(false),
            Err(e) => Err(failed(path, e)),
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (bucket, key) = parts(path)?;
        let meta = self.live()?.head(bucket, key).await.map_err(|e| failed(path, e))?;
        Ok(FileMetadata { size: meta.size_bytes })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let (bucket, key) = parts(path)?;
        read_range(self.live()?, bucket, key, None).await.map_err(|e| failed(path, e))
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        let (bucket, key) = parts(path)?;
        let (objects, bucket, key) = (self.live()?.clone(), bucket.into(), key.into());
        Ok(Box::new(ObjectRead { objects, bucket, key }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.put(path, bytes).await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        parts(path)?;
        let (storage, path) = (self.clone(), path.to_string());
        Ok(Box::new(ObjectWrite { storage, path, bytes: Some(BytesMut::new()) }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let (bucket, key) = parts(path)?;
        self.live()?.delete(bucket, key).await.map(|_| ()).map_err(|e| failed(path, e))
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        // Nothing here deletes by prefix: only the unreferenced-file job may, by age (I6).
        Err(Error::new(ErrorKind::FeatureUnsupported, format!("delete by prefix of '{path}'")))
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_string()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_string()))
    }
}

/// An object's bytes, or a range of them, in memory.
pub async fn read_range(
    objects: &Arc<dyn Objects>,
    bucket: &str,
    key: &str,
    range: Option<Range<u64>>,
) -> std::result::Result<Bytes, ObjectsError> {
    let range = range.map(|r| RangeOf::Bounded(r.start, r.end));
    let (_, found, mut body) = objects.get(bucket, key, range).await?;
    let length = usize::try_from(found.end - found.start).unwrap_or(0);
    let broken = |e: std::io::Error| ObjectsError::Unavailable(format!("{bucket}/{key}: {e}"));
    let Some(first) = body.next().await.transpose().map_err(broken)? else {
        return Ok(Bytes::new());
    };
    if first.len() == length {
        return Ok(first);
    }
    let mut bytes = BytesMut::with_capacity(length);
    bytes.extend_from_slice(&first);
    while let Some(chunk) = body.next().await.transpose().map_err(broken)? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

struct ObjectRead {
    objects: Arc<dyn Objects>,
    bucket: String,
    key: String,
}

#[async_trait]
impl FileRead for ObjectRead {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = read_range(&self.objects, &self.bucket, &self.key, Some(range)).await;
        read.map_err(|e| failed(&format!("s3://{}/{}", self.bucket, self.key), e))
    }
}

/// Gathers the bytes and publishes them at `close`: an object appears whole or not at all.
struct ObjectWrite {
    storage: ObjectsStorage,
    path: String,
    bytes: Option<BytesMut>,
}

#[async_trait]
impl FileWrite for ObjectWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let closed = || Error::new(ErrorKind::Unexpected, "write after close");
        self.bytes.as_mut().ok_or_else(closed)?.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let closed = || Error::new(ErrorKind::Unexpected, "closed twice");
        let bytes = self.bytes.take().ok_or_else(closed)?;
        self.storage.put(&self.path, bytes.freeze()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_s3_locations_with_bucket_and_key_are_split() {
        assert_eq!(split_location("s3://b/k/x"), Some(("b", "k/x")));
        for bad in ["s3://b", "s3://b/", "s3:///k", "file:///x", "b/k", ""] {
            assert_eq!(split_location(bad), None, "{bad}");
        }
    }
}
