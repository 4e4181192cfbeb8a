"""S3 through boto3 and the AWS CLI: every call is signed by the SDK and checked by botocore's models."""

import base64
import concurrent.futures
import datetime
import functools
import hashlib
import http.client
import io
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zlib

import botocore.exceptions
import pytest
from boto3.s3.transfer import TransferConfig

MIB = 1024 * 1024


@pytest.fixture
def s3(lake_server):
    return lake_server.client("s3")


@pytest.fixture
def bucket(s3, unique):
    name = unique("s3-bucket")
    s3.create_bucket(Bucket=name)
    return name


def refused(call, **arguments):
    """The error of a call that must fail: (code, status, message)."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"].get("Message", "")


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def fetch(url, method="GET", data=None, headers=None):
    """One plain HTTP request: (status, headers, body)."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, lower(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, lower(error.headers), error.read()


# Buckets


def test_bucket_lives_from_create_to_delete(s3, unique):
    name = unique("life")
    s3.create_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)  # in us-east-1 a repeated create is no error
    head = s3.head_bucket(Bucket=name)
    assert head["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    assert name in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert refused(s3.delete_bucket, Bucket=name)[0] == "BucketNotEmpty"
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    assert refused(s3.head_bucket, Bucket=name)[1] == 404
    assert refused(s3.put_object, Bucket=name, Key="k", Body=b"x")[0] == "NoSuchBucket"


def test_bucket_keeps_the_region_it_was_made_in(lake_server, s3, unique):
    name, west = unique("west"), lake_server.client("s3", region="eu-west-1")
    where = {"LocationConstraint": "eu-west-1"}
    assert refused(west.create_bucket, Bucket=name)[0] == "IllegalLocationConstraintException"
    west.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    assert refused(west.create_bucket, Bucket=name, CreateBucketConfiguration=where)[0] == "BucketAlreadyOwnedByYou"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"
    assert [b["Name"] for b in s3.list_buckets(BucketRegion="eu-west-1", Prefix=name)["Buckets"]] == [name]
    s3.put_object(Bucket=name, Key="k", Body=b"from elsewhere")
    assert west.get_object(Bucket=name, Key="k")["Body"].read() == b"from elsewhere"


@pytest.mark.parametrize("name", ["Upper", "a_b", "192.168.1.1", "xn--abc", "x--table-s3", "x-s3alias", "a.-b"])
def test_bucket_names_outside_the_rules_are_refused(lake_server, name):
    client = lake_server.client("s3", s3={"addressing_style": "path"})
    assert refused(client.create_bucket, Bucket=name)[0] == "InvalidBucketName"


def test_list_buckets_pages(s3, unique):
    names = sorted(unique("paged") for _ in range(3))
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = s3.get_paginator("list_buckets").paginate(Prefix="paged-", PaginationConfig={"PageSize": 1})
    found = [b["Name"] for page in pages for b in page.get("Buckets", [])]
    assert [n for n in found if n in names] == names


# Objects


def test_object_round_trips_with_all_that_is_kept(s3, bucket):
    expires = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    s3.put_object(
        Bucket=bucket, Key="a/é key+%.txt", Body=b"body", ContentType="text/plain", ContentEncoding="gzip",
        CacheControl="no-store", ContentDisposition="inline", ContentLanguage="de", Expires=expires,
        Metadata={"colour": "blue"}, StorageClass="STANDARD", ServerSideEncryption="AES256", ACL="private",
    )
    got = s3.get_object(Bucket=bucket, Key="a/é key+%.txt")
    assert got["Body"].read() == b"body"
    assert got["ETag"] == '"%s"' % hashlib.md5(b"body").hexdigest()
    assert (got["ContentType"], got["ContentEncoding"], got["CacheControl"]) == ("text/plain", "gzip", "no-store")
    assert (got["ContentDisposition"], got["ContentLanguage"]) == ("inline", "de")
    assert got["ExpiresString"] == "Tue, 01 Jan 2030 00:00:00 GMT"
    assert got["Metadata"] == {"colour": "blue"}
    assert got["ResponseMetadata"]["RequestId"] and got["ResponseMetadata"]["HostId"]
    other = s3.get_object(Bucket=bucket, Key="a/é key+%.txt", ResponseContentType="text/csv")
    assert other["ContentType"] == "text/csv"
    assert s3.head_object(Bucket=bucket, Key="a/é key+%.txt")["ContentLength"] == 4
    s3.put_object(Bucket=bucket, Key="plain", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="plain")["ContentType"] == "binary/octet-stream"


def test_ranges(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    for asked, bytes_, shown in [("2-4", b"234", "2-4"), ("7-", b"789", "7-9"), ("-3", b"789", "7-9"), ("8-99", b"89", "8-9")]:
        got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={asked}")
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert (got["Body"].read(), got["ContentRange"]) == (bytes_, f"bytes {shown}/10")
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-")[:2] == ("InvalidRange", 416)


def test_conditions_of_reads_and_writes(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")[:2] == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfMatch='"0"')[1] == 412
    assert refused(s3.put_object, Bucket=bucket, Key="none", Body=b"2", IfMatch=etag)[:2] == ("NoSuchKey", 404)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag)[1] == 304
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"0"')[1] == 412
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    assert refused(s3.head_object, Bucket=bucket, Key="k", IfModifiedSince=later)[1] == 304
    assert s3.get_object(Bucket=bucket, Key="k", IfUnmodifiedSince=later)["Body"].read() == b"1"
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


def test_user_metadata_at_its_limit_and_one_past_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"k": "v" * 2047})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"]["k"] == "v" * 2047
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", Metadata={"k": "v" * 2048})[0] == "MetadataTooLarge"


def test_keys_at_their_limit_and_one_past_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k" * 1024, Body=b"x")
    assert refused(s3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"x")[0] == "KeyTooLongError"


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/../b", ".", "..", "/lead", "a//b", "tail/", "é/ü", "a b", "%2e%2e/x", "a+b=c&d"])
def test_keys_are_opaque(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


# Checksums


def reflected_crc(polynomial, width, data):
    """A CRC with reflected bits, all ones before and after, as CRC32C and CRC64NVME are."""
    ones = (1 << width) - 1
    crc = ones
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (polynomial if crc & 1 else 0)
    return (crc ^ ones).to_bytes(width // 8, "big")


def digest_of(algorithm, data):
    return {
        "CRC32": lambda: zlib.crc32(data).to_bytes(4, "big"),
        "CRC32C": lambda: reflected_crc(0x82F63B78, 32, data),
        "CRC64NVME": lambda: reflected_crc(0x9A6C9329AC4BC9B5, 64, data),
        "SHA1": lambda: hashlib.sha1(data).digest(),
        "SHA256": lambda: hashlib.sha256(data).digest(),
    }[algorithm]()


ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_is_verified_kept_and_returned(s3, bucket, algorithm):
    value = base64.b64encode(digest_of(algorithm, b"checked")).decode()
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"checked", **{f"Checksum{algorithm}": value})
    assert put[f"Checksum{algorithm}"] == value
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got[f"Checksum{algorithm}"], got["ChecksumType"]) == (b"checked", value, "FULL_OBJECT")
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ETag", "ObjectSize", "StorageClass"])
    assert attributes["Checksum"][f"Checksum{algorithm}"] == value
    assert (attributes["ObjectSize"], attributes["StorageClass"]) == (7, "STANDARD")


@pytest.mark.parametrize(
    "wrong", [{"ChecksumCRC32": "AAAAAA=="}, {"ChecksumCRC32C": "AAAAAA=="}, {"ChecksumCRC64NVME": "AAAAAAAAAAA="},
              {"ChecksumSHA1": base64.b64encode(bytes(20)).decode()}, {"ChecksumSHA256": base64.b64encode(bytes(32)).decode()},
              {"ContentMD5": base64.b64encode(bytes(16)).decode()}]
)
def test_wrong_checksums_publish_nothing(s3, bucket, wrong):
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"x", **wrong)[:2] == ("BadDigest", 400)
    assert refused(s3.get_object, Bucket=bucket, Key="k")[0] == "NoSuchKey"


def test_stream_of_unknown_hash_arrives_in_chunks_with_a_trailer(s3, bucket):
    body = io.BytesIO(b"z" * (300 * 1024))
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA256")
    assert put["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"z" * (300 * 1024)).digest()).decode()
    assert s3.head_object(Bucket=bucket, Key="k").get("ContentEncoding", "") in ("", None)


# Copies


def test_copy_keeps_or_replaces_metadata(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"data", Metadata={"n": "1"}, ContentType="text/plain")["ETag"]
    source = {"Bucket": bucket, "Key": "a"}
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource=source)["CopyObjectResult"]
    assert copied["ETag"] == etag
    assert s3.head_object(Bucket=bucket, Key="b")["Metadata"] == {"n": "1"}
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    head = s3.head_object(Bucket=bucket, Key="b")
    assert (head["Metadata"], head["ContentType"]) == ({"n": "2"}, "binary/octet-stream")
    assert refused(s3.copy_object, Bucket=bucket, Key="a", CopySource=source)[0] == "InvalidRequest"
    for condition in [{"CopySourceIfMatch": '"0"'}, {"CopySourceIfNoneMatch": etag}]:
        assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource=source, **condition)[1] == 412
    assert refused(s3.copy_object, Bucket=bucket, Key="b", CopySource=source, IfNoneMatch="*")[1] == 412
    assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "no"})[0] == "NoSuchKey"


# Multipart


def test_multipart_upload_by_the_transfer_manager(s3, bucket):
    body = bytes(range(256)) * (13 * 4096)
    s3.upload_fileobj(io.BytesIO(body), bucket, "big", Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))
    head = s3.head_object(Bucket=bucket, Key="big", ChecksumMode="ENABLED")
    assert head["ETag"].endswith('-3"') and head["ContentLength"] == len(body)
    out = io.BytesIO()
    s3.download_fileobj(bucket, "big", out)
    assert out.getvalue() == body
    part = s3.get_object(Bucket=bucket, Key="big", PartNumber=3)
    assert (part["PartsCount"], part["Body"].read()) == (3, body[10 * MIB:])
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copy", Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body
    parts = s3.get_object_attributes(Bucket=bucket, Key="big", ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert parts["TotalPartsCount"] == 3


def test_multipart_limits_order_and_abort(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    key = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = {n: s3.upload_part(PartNumber=n, Body=b"small", **key)["ETag"] for n in (1, 10_000)}
    for number in (0, 10_001):
        assert refused(s3.upload_part, PartNumber=number, Body=b"x", **key)[0] == "InvalidArgument"
    parts = [{"PartNumber": n, "ETag": e} for n, e in etags.items()]
    assert refused(s3.complete_multipart_upload, MultipartUpload={"Parts": parts}, **key)[0] == "EntityTooSmall"
    assert refused(s3.complete_multipart_upload, MultipartUpload={"Parts": parts[::-1]}, **key)[0] == "InvalidPartOrder"
    wrong = [{"PartNumber": 1, "ETag": '"0"'}]
    assert refused(s3.complete_multipart_upload, MultipartUpload={"Parts": wrong}, **key)[0] == "InvalidPart"
    assert [p["PartNumber"] for p in s3.list_parts(**key)["Parts"]] == [1, 10_000]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    assert refused(s3.delete_bucket, Bucket=bucket)[0] == "BucketNotEmpty"
    s3.abort_multipart_upload(**key)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert refused(s3.abort_multipart_upload, **key)[0] == "NoSuchUpload"


def test_multipart_part_of_the_least_size_and_one_byte_less(s3, bucket):
    for size, good in [(5 * MIB, True), (5 * MIB - 1, False)]:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        key = {"Bucket": bucket, "Key": "k", "UploadId": upload}
        parts = [{"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=b"x" * s, **key)["ETag"]} for n, s in [(1, size), (2, 1)]]
        complete = {"MultipartUpload": {"Parts": parts}, **key}
        if good:
            first = s3.complete_multipart_upload(**complete)
            assert s3.complete_multipart_upload(**complete)["ETag"] == first["ETag"]  # a lost answer, asked again
        else:
            assert refused(s3.complete_multipart_upload, **complete)[0] == "EntityTooSmall"


@pytest.mark.parametrize("algorithm,kind", [("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE")])
def test_multipart_checksums(s3, bucket, algorithm, kind):
    pieces = [b"a" * (5 * MIB), b"tail"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)["UploadId"]
    key = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    parts = []
    for number, piece in enumerate(pieces, 1):
        part = s3.upload_part(PartNumber=number, Body=piece, ChecksumAlgorithm=algorithm, **key)
        parts.append({"PartNumber": number, "ETag": part["ETag"], f"Checksum{algorithm}": part[f"Checksum{algorithm}"]})
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **key)
    digest = functools.partial(digest_of, algorithm)
    if kind == "FULL_OBJECT":
        wanted = base64.b64encode(digest(b"".join(pieces))).decode()
    else:
        wanted = base64.b64encode(digest(b"".join(map(digest, pieces)))).decode() + "-2"
    assert (done[f"Checksum{algorithm}"], done["ChecksumType"]) == (wanted, kind)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (wanted, kind)


def test_one_completion_asked_for_many_times_at_once_is_one_success(lake_server, bucket):
    s3 = lake_server.client("s3", max_pool_connections=16)
    for attempt in range(4):
        key = f"k{attempt}"
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            completions = [
                pool.submit(s3.complete_multipart_upload, Bucket=bucket, Key=key, UploadId=upload, MultipartUpload=parts)
                for _ in range(16)
            ]
        assert len({completion.result()["ETag"] for completion in completions}) == 1


def test_multipart_completion_under_a_condition(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    key = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    parts = [{"PartNumber": 1, "ETag": s3.upload_part(PartNumber=1, Body=b"new", **key)["ETag"]}]
    assert refused(s3.complete_multipart_upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*", **key)[1] == 412
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **key)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


# Listings


def test_listings_page_and_group(s3, bucket):
    keys = sorted(["a b", "a+b", "d/1", "d/2", "e/x/y", "f", "é", "\x01c"], key=lambda k: k.encode())
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for operation in ("list_objects", "list_objects_v2"):
        pages = list(s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}))
        assert [o["Key"] for p in pages for o in p["Contents"]] == keys and len(pages) == 3
        pages = list(s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2}))
        assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["d/", "e/"]
        assert [o["Key"] for p in pages for o in p.get("Contents", [])] == [k for k in keys if "/" not in k]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, StartAfter="d/1", MaxKeys=2)["Contents"]] == ["d/2", "e/x/y"]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="d/")["Contents"]] == ["d/1", "d/2"]
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == "000000000000"
    assert refused(s3.list_objects_v2, Bucket=bucket, ContinuationToken="!")[0] == "InvalidArgument"


def test_multi_delete(s3, bucket):
    for n in range(1000):
        if n % 100 == 0:
            s3.put_object(Bucket=bucket, Key=str(n), Body=b"x")
    names = [{"Key": str(n)} for n in range(1000)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": names})["Deleted"]) == 1000
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": names[:1], "Quiet": True})
    assert refused(s3.delete_objects, Bucket=bucket, Delete={"Objects": names + [{"Key": "more"}]})[0] == "MalformedXML"


# Presigned URLs and signatures


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls(lake_server, bucket, version):
    s3 = lake_server.client("s3", signature_version=version)
    key = {"Bucket": bucket, "Key": "dir/pre signed+é"}
    put = s3.generate_presigned_url("put_object", {**key, "ContentType": "text/plain", "Metadata": {"n": "1"}}, ExpiresIn=60)
    in_url = "x-amz-meta-n" in urllib.parse.parse_qs(urllib.parse.urlsplit(put).query)
    headers = {"Content-Type": "text/plain", **({} if in_url else {"x-amz-meta-n": "1"})}
    status, _, body = fetch(put, "PUT", b"by url", headers)
    assert status == 200, body
    url = s3.generate_presigned_url("get_object", {**key, "ResponseContentType": "text/csv"}, ExpiresIn=60)
    status, headers, body = fetch(url)
    assert (status, body, headers["content-type"], headers["x-amz-meta-n"]) == (200, b"by url", "text/csv", "1")
    status, _, body = fetch(url.replace("csv", "xml"))
    assert status == 403 and b"SignatureDoesNotMatch" in body
    expired = s3.generate_presigned_url("get_object", key, ExpiresIn=-10)
    assert fetch(expired)[0] in (400, 403)


def test_default_presigned_url_of_boto3_works(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert fetch(s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}))[2] == b"x"


def test_signatures_that_are_missing_old_foreign_or_incomplete_are_refused(lake_server, bucket):
    at = f"{lake_server.endpoint}/{bucket}/k"
    assert fetch(at)[0] == 403
    v2 = fetch(at, headers={"Authorization": "AWS AKID:c2lnbmF0dXJl", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    assert v2[0] in (400, 403)
    import boto3

    def stranger(**keys):
        return boto3.client("s3", endpoint_url=lake_server.endpoint, region_name="us-east-1", **keys)

    known = lake_server.exports()
    nobody = stranger(aws_access_key_id="AKIDNOBODY", aws_secret_access_key="x")
    assert refused(nobody.list_objects_v2, Bucket=bucket)[0] == "InvalidAccessKeyId"
    forger = stranger(aws_access_key_id=known["AWS_ACCESS_KEY_ID"], aws_secret_access_key="x")
    assert refused(forger.list_objects_v2, Bucket=bucket)[0] == "SignatureDoesNotMatch"
    tokens = stranger(
        aws_access_key_id=known["AWS_ACCESS_KEY_ID"], aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"], aws_session_token="t"
    )
    assert refused(tokens.list_objects_v2, Bucket=bucket)[0] == "InvalidToken"


def test_virtual_hosts_address_buckets(lake_server, bucket):
    s3 = lake_server.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = urllib.parse.urlsplit(s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}))
    connection = http.client.HTTPConnection(url.hostname, url.port)
    # Version 2 signs "/BUCKET/KEY" whichever way the bucket is named.
    connection.request("GET", f"/k?{url.query}", headers={"Host": f"{bucket}.localhost:{url.port}"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"x")


# Refusals


@pytest.mark.parametrize(
    "member",
    [{"StorageClass": "GLACIER"}, {"ServerSideEncryption": "aws:kms"},
     {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}, {"WebsiteRedirectLocation": "/x"},
     {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, {"ObjectLockLegalHoldStatus": "ON"},
     {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.datetime(2030, 1, 1)}, {"ACL": "public-read"},
     {"GrantRead": "id=1"}],
    ids=lambda m: next(iter(m)),
)
def test_members_that_are_not_built_are_refused_and_nothing_is_written(s3, bucket, member):
    if "SSECustomerKey" in member:
        member = dict(member, SSECustomerKey="k" * 32)
    code, status, message = refused(s3.put_object, Bucket=bucket, Key="k", Body=b"x", **member)
    assert (code, status) in [("NotImplemented", 501), ("AccessControlListNotSupported", 400)]
    assert "x-amz-" in message
    assert refused(s3.get_object, Bucket=bucket, Key="k")[0] == "NoSuchKey"


@pytest.mark.parametrize(
    "operation,arguments",
    [("put_bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "i"}}}),
     ("delete_bucket_ownership_controls", {}), ("get_object_torrent", {"Key": "k"}),
     ("restore_object", {"Key": "k", "RestoreRequest": {"Days": 1}})],
)
def test_operations_that_are_not_built_are_refused_by_name(s3, bucket, operation, arguments):
    code, status, message = refused(getattr(s3, operation), Bucket=bucket, **arguments)
    assert (code, status) == ("NotImplemented", 501)
    assert operation.replace("_", "") in message.lower().replace("configuration", "")


def test_next_good_call_works_after_a_refused_one_on_the_same_connection(s3, bucket):
    big = b"x" * (2 * MIB)
    for _ in range(3):
        refused(s3.put_object, Bucket=bucket, Key="k", Body=big, StorageClass="GLACIER")
        s3.put_object(Bucket=bucket, Key="k", Body=b"good")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"good"


# The bucket of a table


def test_bucket_of_a_table_is_read_and_added_to_and_nothing_else(lake_server, s3, make_table):
    table = make_table([{"name": "id", "type": "int"}])
    s3tables = lake_server.client("s3tables")
    location = s3tables.get_table(tableArn=table["table_arn"])["warehouseLocation"]
    warehouse = location.removeprefix("s3://").split("/")[0]
    assert warehouse.endswith("--table-s3")
    s3.put_object(Bucket=warehouse, Key="data/f.bin", Body=b"rows")
    s3.put_object(Bucket=warehouse, Key="data/f.bin", Body=b"rows")  # the same write again
    assert refused(s3.put_object, Bucket=warehouse, Key="data/f.bin", Body=b"other")[1] == 412
    assert s3.get_object(Bucket=warehouse, Key="data/f.bin", Range="bytes=0-1")["Body"].read() == b"ro"
    for call, arguments in [
        (s3.delete_object, {"Key": "data/f.bin"}), (s3.list_objects_v2, {}), (s3.list_objects, {}), (s3.delete_bucket, {}),
        (s3.delete_objects, {"Delete": {"Objects": [{"Key": "data/f.bin"}]}}),
    ]:
        assert refused(call, Bucket=warehouse, **arguments)[:2] == ("MethodNotAllowed", 405)
    assert warehouse not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


# The AWS CLI


def test_aws_cli_copies_syncs_lists_and_removes(lake_server, bucket, tmp_path):
    environment = {**lake_server.client_env(), "AWS_ENDPOINT_URL": lake_server.endpoint}

    def aws(*arguments):
        command = [sys.executable, "-m", "awscli", "s3", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "one.txt").write_bytes(b"one")
    (source / "sub" / "two words.txt").write_bytes(b"two")
    (source / "big.bin").write_bytes(b"b" * (17 * MIB))
    aws("sync", str(source), f"s3://{bucket}/in", "--only-show-errors")
    listing = aws("ls", f"s3://{bucket}/in/", "--recursive")
    assert "in/sub/two words.txt" in listing and "17825792 in/big.bin" in listing
    assert aws("sync", str(source), f"s3://{bucket}/in") == ""
    aws("cp", f"s3://{bucket}/in/big.bin", f"s3://{bucket}/copy.bin", "--only-show-errors")
    aws("cp", f"s3://{bucket}/copy.bin", str(tmp_path / "back.bin"), "--only-show-errors")
    assert (tmp_path / "back.bin").read_bytes() == (source / "big.bin").read_bytes()
    aws("sync", f"s3://{bucket}/in", str(tmp_path / "mirror"), "--only-show-errors")
    assert (tmp_path / "mirror" / "sub" / "two words.txt").read_bytes() == b"two"
    aws("rm", f"s3://{bucket}", "--recursive", "--only-show-errors")
    assert aws("ls", f"s3://{bucket}") == ""
    aws("rb", f"s3://{bucket}")
