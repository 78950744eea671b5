"""What boto3 does with an object beside its bytes, against the endpoint in AWS_ENDPOINT_URL: tags, parts, checksums,
copies, conditions. Prints `all well` at the end."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 1}))
BUCKET = "boto3-objects"


def code_of(call, **arguments):
    """The S3 error code that a call ends with."""
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


def tags_of(key):
    """The tags of an object as a dictionary."""
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]}
    assert s3.head_object(Bucket=BUCKET, Key=key).get("TagCount", 0) == len(tags)
    return tags


def tag_set(tags):
    """Tags as the API wants them."""
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


s3.create_bucket(Bucket=BUCKET)

# Tags.
s3.put_object(Bucket=BUCKET, Key="tagged", Body=b"1", Tagging="colour=dark%20red&empty=")
assert tags_of("tagged") == {"colour": "dark red", "empty": ""}
s3.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging=tag_set({"käse": "+-=._:/@"}))
assert tags_of("tagged") == {"käse": "+-=._:/@"}
source = {"Bucket": BUCKET, "Key": "tagged"}
s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
assert tags_of("copy") == {"käse": "+-=._:/@"}
s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, TaggingDirective="REPLACE", Tagging="a=b")
assert tags_of("copy") == {"a": "b"}
s3.delete_object_tagging(Bucket=BUCKET, Key="tagged")
assert tags_of("tagged") == {}
eleven = tag_set({f"k{number}": "v" for number in range(11)})
assert code_of(s3.put_object_tagging, Key="tagged", Tagging=eleven) == "BadRequest"
assert code_of(s3.put_object_tagging, Key="tagged", Tagging=tag_set({"k" * 129: ""})) == "InvalidTag"
assert code_of(s3.get_object_tagging, Key="none") == "NoSuchKey"

for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
    for entry in page["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
s3.delete_bucket(Bucket=BUCKET)
print("all well")
