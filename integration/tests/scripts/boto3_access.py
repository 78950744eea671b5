"""Who may do what, as S3 users try it: users made with `ullage admin`, bucket policies, canned lists, presigned
URLs and plain HTTP without credentials, against the endpoint in AWS_ENDPOINT_URL. Arguments: the binary and the
address of the admin API. Prints `all well` at the end."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

BINARY, ADMIN = sys.argv[1:]
BUCKET = "boto3-access"


def client(user=None, **config):
    keys = {"aws_access_key_id": user, "aws_secret_access_key": "long enough"} if user else {}
    settings = Config(retries={"max_attempts": 1}, signature_version=config.get("signature", "s3v4"))
    return boto3.client("s3", config=settings, **keys)


def admin(*arguments):
    done = subprocess.run(
        [BINARY, "admin", "--endpoint", ADMIN, "--json", *arguments], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def denied(call, code="AccessDenied", **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got in (code, "403" if code == "AccessDenied" else code), (call, arguments, got)
    else:
        raise AssertionError(f"{call} {arguments} should have failed")


def plain_http(path):
    """(status, body) of a GET without credentials."""
    try:
        with urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + path) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


root, anonymous = client(), client(signature=UNSIGNED)
with open("team.json", "w") as file:
    file.write(
        """{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::%s/team/${aws:username}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::%s",
         "Condition": {"StringLike": {"s3:prefix": "team/${aws:username}/*"}}}]}"""
        % (BUCKET, BUCKET)
    )
for name, policy in [("ann", "team.json"), ("bea", "readwrite"), ("cid", "none")]:
    code, said = admin(
        "user", "create", name, "--access-key", name, "--secret-key", "long enough", "--policy", policy
    )
    assert code == 0, said
assert admin("user", "create", "dan", "--access-key", "dan", "--secret-key", "long enough", "--policy", "x")[0] != 0
with open("bad.json", "w") as file:
    file.write('{"Statement": {"Effect": "Allow", "Action": "s3:Everything", "Resource": "*"}}')
code, said = admin("user", "policy", "cid", "bad.json")
assert code != 0 and "s3:Everything" in said, said
code, said = admin("user", "policy", "ann")
assert code == 0 and json.loads(said)["policy"]["Version"] == "2012-10-17", said
code, said = admin("user", "create", "eve")
made = json.loads(said)
eve = {"aws_access_key_id": made["access_key"], "aws_secret_access_key": made["secret_key"]}
boto3.client("s3", **eve).list_buckets()

ann, bea, cid = client("ann"), client("bea"), client("cid")
root.create_bucket(Bucket=BUCKET)
for key in ("plain", "open", "public/a", "secret/a", "team/ann/a"):
    acl = {"ACL": "public-read"} if key == "open" else {}
    root.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), **acl)

# Users' policies, by prefix and by name.
ann.put_object(Bucket=BUCKET, Key="team/ann/b", Body=b"mine")
assert ann.list_objects_v2(Bucket=BUCKET, Prefix="team/ann/")["KeyCount"] == 2
denied(ann.list_objects_v2, Bucket=BUCKET)
denied(ann.put_object, Bucket=BUCKET, Key="team/bea/b", Body=b"not mine")
denied(ann.get_object, Bucket=BUCKET, Key="plain")
denied(ann.copy_object, Bucket=BUCKET, Key="team/ann/c", CopySource={"Bucket": BUCKET, "Key": "plain"})
denied(cid.get_object, Bucket=BUCKET, Key="plain")
assert bea.get_object(Bucket=BUCKET, Key="plain")["Body"].read() == b"plain"

# Without credentials: public objects by plain HTTP, nothing else.
assert plain_http(f"/{BUCKET}/open") == (200, b"open")
assert anonymous.get_object(Bucket=BUCKET, Key="open")["Body"].read() == b"open"
for path in ("plain", "absent", "", "public/a"):
    assert plain_http(f"/{BUCKET}/{path}")[0] == 403, path
assert plain_http("/")[0] == 403
denied(anonymous.put_object, Bucket=BUCKET, Key="new", Body=b"x")
grants = root.get_object_acl(Bucket=BUCKET, Key="open")["Grants"]
assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL", "READ"], grants
root.put_object_acl(Bucket=BUCKET, Key="open", ACL="private")
assert plain_http(f"/{BUCKET}/open")[0] == 403
url = root.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "plain"})
with urllib.request.urlopen(url) as answer:
    assert answer.read() == b"plain"

# A bucket policy.
policy = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{BUCKET}/public/*",
        },
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": f"arn:aws:s3:::{BUCKET}/secret/*",
        },
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:user/cid"},
            "Action": ["s3:PutObject", "s3:DeleteObject"],
            "Resource": f"arn:aws:s3:::{BUCKET}/inbox/*",
            "Condition": {"IpAddress": {"aws:SourceIp": ["127.0.0.0/8", "::1/128"]}},
        },
        {
            "Effect": "Deny",
            "Principal": {"AWS": "arn:aws:iam::123456789012:user/bea"},
            "Action": "s3:*",
            "Resource": f"arn:aws:s3:::{BUCKET}/public/*",
            "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
        },
    ],
}
denied(root.get_bucket_policy, "NoSuchBucketPolicy", Bucket=BUCKET)
root.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
assert json.loads(root.get_bucket_policy(Bucket=BUCKET)["Policy"]) == policy
assert root.get_bucket_policy_status(Bucket=BUCKET)["PolicyStatus"]["IsPublic"] is True
assert plain_http(f"/{BUCKET}/public/a") == (200, b"public/a")
assert plain_http(f"/{BUCKET}/plain")[0] == 403
denied(bea.get_object, Bucket=BUCKET, Key="secret/a")
denied(bea.get_object, Bucket=BUCKET, Key="public/a")
assert root.get_object(Bucket=BUCKET, Key="secret/a")["Body"].read() == b"secret/a"
cid.put_object(Bucket=BUCKET, Key="inbox/a", Body=b"x")
denied(cid.get_object, Bucket=BUCKET, Key="inbox/a")
several = cid.delete_objects(
    Bucket=BUCKET, Delete={"Objects": [{"Key": "inbox/a"}, {"Key": "plain"}, {"Key": "secret/a"}]}
)
assert [entry["Key"] for entry in several["Deleted"]] == ["inbox/a"], several
assert {entry["Key"]: entry["Code"] for entry in several["Errors"]} == {
    "plain": "AccessDenied",
    "secret/a": "AccessDenied",
}, several
denied(ann.put_bucket_policy, Bucket=BUCKET, Policy=json.dumps(policy))
policy["Statement"][0]["Condition"] = {"StringEquals": {"s3:ExistingJobOperation": "yes"}}
denied(root.put_bucket_policy, "MalformedPolicy", Bucket=BUCKET, Policy=json.dumps(policy))
root.delete_bucket_policy(Bucket=BUCKET)
assert plain_http(f"/{BUCKET}/public/a")[0] == 403

# A right that is taken away is gone.
code, said = admin("user", "policy", "bea", "readonly")
assert code == 0, said
denied(bea.put_object, Bucket=BUCKET, Key="new", Body=b"x")
assert bea.get_object(Bucket=BUCKET, Key="plain")["Body"].read() == b"plain"
assert [bucket["Name"] for bucket in cid.list_buckets()["Buckets"]] == []
assert BUCKET in [bucket["Name"] for bucket in bea.list_buckets()["Buckets"]]

# Public buckets.
root.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
assert plain_http(f"/{BUCKET}?list-type=2&prefix=team/")[0] == 200
shut = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": False,
    "RestrictPublicBuckets": False,
}
root.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=shut)
assert root.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == shut
assert plain_http(f"/{BUCKET}?list-type=2&prefix=team/")[0] == 403
denied(root.put_bucket_acl, Bucket=BUCKET, ACL="public-read")
root.delete_public_access_block(Bucket=BUCKET)
assert plain_http(f"/{BUCKET}?list-type=2&prefix=team/")[0] == 200
assert plain_http(f"/{BUCKET}/plain")[0] == 403
root.put_bucket_acl(Bucket=BUCKET, ACL="private")
assert plain_http(f"/{BUCKET}?list-type=2")[0] == 403

print("all well")
