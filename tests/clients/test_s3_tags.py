"""Tags of S3 objects and buckets through boto3."""

import pytest

from test_s3 import MIB, bucket, lower, refused, s3  # noqa: F401


def tag_set(**tags):
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def tags(s3, bucket, key, **more):  # noqa: F811
    return s3.get_object_tagging(Bucket=bucket, Key=key, **more)["TagSet"]


def test_objects_are_tagged_as_they_are_put(s3, bucket):  # noqa: F811
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b+c=%C3%A9/x&d")
    wanted = [{"Key": "a", "Value": "1"}, {"Key": "b c", "Value": "é/x"}, {"Key": "d", "Value": ""}]
    assert tags(s3, bucket, "k") == wanted
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 3
    headers = lower(s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"])
    assert headers["x-amz-tagging-count"] == "3"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert tags(s3, bucket, "k") == [] and "TagCount" not in s3.get_object(Bucket=bucket, Key="k")


def test_tags_are_replaced_and_removed_without_touching_the_object(s3, bucket):  # noqa: F811
    etag = s3.put_object(Bucket=bucket, Key="k/with/slashes", Body=b"x", Tagging="a=1")["ETag"]
    before = s3.head_object(Bucket=bucket, Key="k/with/slashes")["LastModified"]
    s3.put_object_tagging(Bucket=bucket, Key="k/with/slashes", Tagging={"TagSet": tag_set(b="2", c="3")})
    assert tags(s3, bucket, "k/with/slashes") == tag_set(b="2", c="3")
    head = s3.head_object(Bucket=bucket, Key="k/with/slashes")
    assert (head["ETag"], head["LastModified"]) == (etag, before)
    answer = s3.delete_object_tagging(Bucket=bucket, Key="k/with/slashes")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags(s3, bucket, "k/with/slashes") == []
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="none", Tagging={"TagSet": []})[0] == "NoSuchKey"


def test_each_version_has_its_tags(s3, bucket):  # noqa: F811
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="n=1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", Tagging="n=2")["VersionId"]
    answer = s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=first)
    assert (answer["TagSet"], answer["VersionId"]) == (tag_set(n="1"), first)
    put = s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=first, Tagging={"TagSet": tag_set(n="3")})
    assert put["VersionId"] == first
    assert tags(s3, bucket, "k") == tag_set(n="2") and tags(s3, bucket, "k", VersionId=first) == tag_set(n="3")
    assert s3.delete_object_tagging(Bucket=bucket, Key="k")["VersionId"] == second
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    assert refused(s3.get_object_tagging, Bucket=bucket, Key="k")[0] == "NoSuchKey"
    code, status, _ = refused(s3.get_object_tagging, Bucket=bucket, Key="k", VersionId=marker)
    assert (code, status) == ("MethodNotAllowed", 405)


def test_copies_and_uploads_carry_tags(s3, bucket):  # noqa: F811
    s3.put_object(Bucket=bucket, Key="from", Body=b"x", Tagging="a=1")
    source = {"Bucket": bucket, "Key": "from"}
    s3.copy_object(Bucket=bucket, Key="copied", CopySource=source)
    assert tags(s3, bucket, "copied") == tag_set(a="1")
    s3.copy_object(Bucket=bucket, Key="replaced", CopySource=source, TaggingDirective="REPLACE", Tagging="b=2")
    assert tags(s3, bucket, "replaced") == tag_set(b="2")
    s3.copy_object(Bucket=bucket, Key="from", CopySource=source, TaggingDirective="REPLACE")
    assert tags(s3, bucket, "from") == []
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", Tagging="c=3")["UploadId"]
    key = {"Bucket": bucket, "Key": "parts", "UploadId": upload}
    part = s3.upload_part(PartNumber=1, Body=b"x", **key)["ETag"]
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}, **key)
    assert tags(s3, bucket, "parts") == tag_set(c="3")


def test_limits_of_tags_are_kept_at_their_edge(s3, bucket):  # noqa: F811
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    def put(pairs):
        return {"Bucket": bucket, "Key": "k", "Tagging": {"TagSet": [{"Key": k, "Value": v} for k, v in pairs]}}

    many = [(str(n), "v") for n in range(11)]
    s3.put_object_tagging(**put(many[:10]))
    assert refused(s3.put_object_tagging, **put(many))[0] == "BadRequest"
    s3.put_object_tagging(**put([("k" * 128, "v" * 256)]))
    for bad in ([("k" * 129, "")], [("k", "v" * 257)], [("a", "1"), ("a", "2")], [("aws:x", "1")], [("a<", "1")]):
        assert refused(s3.put_object_tagging, **put(bad))[0] == "InvalidTag", bad
    assert refused(s3.put_object, Bucket=bucket, Key="new", Body=b"x" * MIB, Tagging="a=1&a=2")[0] == "InvalidArgument"
    assert refused(s3.head_object, Bucket=bucket, Key="new")[1] == 404
    assert tags(s3, bucket, "k") == [{"Key": "k" * 128, "Value": "v" * 256}]


def test_a_bucket_has_tags(s3, bucket):  # noqa: F811
    assert refused(s3.get_bucket_tagging, Bucket=bucket)[:2] == ("NoSuchTagSet", 404)
    fifty = tag_set(**{f"k{n:02}": str(n) for n in range(50)})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": fifty})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == fifty
    one_more = fifty + tag_set(more="1")
    assert refused(s3.put_bucket_tagging, Bucket=bucket, Tagging={"TagSet": one_more})[0] == "BadRequest"
    s3.delete_bucket_tagging(Bucket=bucket)
    assert refused(s3.get_bucket_tagging, Bucket=bucket)[0] == "NoSuchTagSet"
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.get_bucket_tagging(Bucket="absent-" + bucket)
