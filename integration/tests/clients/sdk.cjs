// Amazon's SDK for JavaScript v3 with its defaults (checksums on every upload, checked on every download): streams, the
// upload helper, presigned addresses, paginators, waiters. Prints `all well` at the end.
// The SDK resolves from the working directory.
'use strict';

const assert = require('node:assert/strict');
const { createHash, randomBytes } = require('node:crypto');
const { createRequire } = require('node:module');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { setTimeout } = require('node:timers/promises');

const installed = createRequire(process.cwd() + '/');
const sdk = installed('@aws-sdk/client-s3');
const { Upload } = installed('@aws-sdk/lib-storage');
const { getSignedUrl } = installed('@aws-sdk/s3-request-presigner');

const Bucket = 'sdk-js';
const client = (options) => new sdk.S3Client({
  endpoint: process.env.AWS_ENDPOINT_URL, forcePathStyle: true, maxAttempts: 1, ...options,
});
const s3 = client({});
const send = (name, input = {}) => s3.send(new sdk[`${name}Command`]({ Bucket, ...input }));
const bytesOf = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
const md5 = (bytes) => `"${createHash('md5').update(bytes).digest('hex')}"`;

async function fails(call, name, status) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, name, error);
    assert.equal(error.$metadata.httpStatusCode, status, error);
    return true;
  });
}

// The helper gives up first and cleans up in the background.
async function until(state, reached) {
  const deadline = Date.now() + 20_000;
  while (!(await reached())) {
    assert(Date.now() < deadline, `not reached: ${state}`);
    await setTimeout(50);
  }
}

async function buckets() {
  await fails(send('HeadBucket'), 'NotFound', 404);
  await send('CreateBucket');
  await sdk.waitUntilBucketExists({ client: s3, maxWaitTime: 10 }, { Bucket });
  const listed = await s3.send(new sdk.ListBucketsCommand({}));
  assert(listed.Buckets.some((bucket) => bucket.Name === Bucket && bucket.CreationDate instanceof Date));
}

async function objects() {
  const Key = 'odd key/+ %20 ünï ../日本?&=#';
  const body = randomBytes(100_000);
  const put = await send('PutObject', {
    Key, Body: body, ContentType: 'application/x-wine', CacheControl: 'no-cache', Metadata: { vintage: '1961' },
  });
  assert.equal(put.ETag, md5(body));
  assert(put.ChecksumCRC32, 'the SDK sends a CRC32 by itself, and is told it back');
  await sdk.waitUntilObjectExists({ client: s3, maxWaitTime: 10 }, { Bucket, Key });
  const head = await send('HeadObject', { Key, ChecksumMode: 'ENABLED' });
  assert.equal(head.ChecksumCRC32, put.ChecksumCRC32);
  assert.equal(head.ContentLength, body.length);
  assert.deepEqual(head.Metadata, { vintage: '1961' });
  assert.deepEqual([head.ContentType, head.CacheControl], ['application/x-wine', 'no-cache']);
  assert(Math.abs(Date.now() - head.LastModified) < 120_000);
  assert((await bytesOf(await send('GetObject', { Key }))).equals(body), 'and checks it while it reads');

  const range = await send('GetObject', { Key, Range: 'bytes=-10' });
  assert.equal(range.ContentRange, 'bytes 99990-99999/100000');
  assert((await bytesOf(range)).equals(body.subarray(-10)));
  await fails(send('GetObject', { Key, Range: 'bytes=100000-' }), 'InvalidRange', 416);
  await fails(send('GetObject', { Key: 'nothing' }), 'NoSuchKey', 404);
  await fails(send('GetObject', { Key, IfNoneMatch: put.ETag }), 'Unknown', 304);
  await fails(send('PutObject', { Key, Body: 'x', IfNoneMatch: '*' }), 'PreconditionFailed', 412);
  await send('PutObject', { Key, Body: body, IfMatch: put.ETag });
  for (const ChecksumAlgorithm of ['CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
    const field = `Checksum${ChecksumAlgorithm}`;
    const stored = await send('PutObject', { Key: 'checksum', Body: body, ChecksumAlgorithm });
    const seen = await send('HeadObject', { Key: 'checksum', ChecksumMode: 'ENABLED' });
    assert(stored[field] && stored[field] === seen[field], ChecksumAlgorithm);
  }
  const source = `${Bucket}/${encodeURIComponent(Key)}`;
  const copy = await send('CopyObject', { Key: 'copy', CopySource: source });
  assert.equal(copy.CopyObjectResult.ETag, put.ETag);
  assert((await bytesOf(await send('GetObject', { Key: 'copy' }))).equals(body));
}

// A stream of unknown length goes up in parts; one of known length in one request, with the checksum in its trailer.
async function streams() {
  const body = randomBytes(12_000_000);
  const chunks = function* () {
    for (let at = 0; at < body.length; at += 70_001) yield body.subarray(at, at + 70_001);
  };
  const upload = new Upload({
    client: s3, partSize: 5 << 20, queueSize: 3, params: { Bucket, Key: 'stream', Body: Readable.from(chunks()) },
  });
  let progress = 0;
  upload.on('httpUploadProgress', (event) => { progress = event.loaded; });
  const done = await upload.done();
  assert.match(done.ETag, /-3"$/);
  assert.equal(progress, body.length);
  const hash = createHash('md5');
  await pipeline((await send('GetObject', { Key: 'stream' })).Body, hash);
  assert.equal(`"${hash.digest('hex')}"`, md5(body));

  const sized = await send('PutObject', { Key: 'sized', Body: Readable.from(chunks()), ContentLength: body.length });
  assert.equal(sized.ETag, md5(body));
  assert((await bytesOf(await send('GetObject', { Key: 'sized' }))).equals(body));

  const aborted = new Upload({
    client: s3, partSize: 5 << 20, params: { Bucket, Key: 'aborted', Body: Readable.from(chunks()) },
  });
  aborted.on('httpUploadProgress', () => aborted.abort());
  await assert.rejects(aborted.done(), { name: 'AbortError' });
  await until('an aborted upload leaves nothing', async () => !(await send('ListMultipartUploads')).Uploads);
  await fails(send('HeadObject', { Key: 'aborted' }), 'NotFound', 404);
}

async function listings() {
  const names = Array.from({ length: 25 }, (_, number) => `many/${String(number).padStart(2, '0')}`);
  await Promise.all(names.map((Key) => send('PutObject', { Key, Body: Key })));
  const keys = [];
  for await (const page of sdk.paginateListObjectsV2({ client: s3, pageSize: 7 }, { Bucket, Prefix: 'many/' })) {
    assert(page.KeyCount <= 7);
    keys.push(...page.Contents.map((entry) => entry.Key));
  }
  assert.deepEqual(keys, names);
  const folders = await send('ListObjectsV2', { Delimiter: '/' });
  assert.deepEqual(folders.CommonPrefixes.map((folder) => folder.Prefix), ['many/', 'odd key/']);

  const { UploadId } = await send('CreateMultipartUpload', { Key: 'parts' });
  const part = { Key: 'parts', UploadId };
  for (const PartNumber of [1, 2, 5]) await send('UploadPart', { ...part, PartNumber, Body: 'p'.repeat(PartNumber) });
  const parts = [];
  for await (const page of sdk.paginateListParts({ client: s3, pageSize: 2 }, { Bucket, ...part })) {
    parts.push(...page.Parts.map(({ PartNumber, Size }) => [PartNumber, Size]));
    // The helper itself looks only at the marker, which S3 sets on the last page too, and would begin again.
    if (!page.IsTruncated) break;
  }
  assert.deepEqual(parts, [[1, 1], [2, 2], [5, 5]]);
  await send('AbortMultipartUpload', part);
  await fails(send('ListParts', part), 'NoSuchUpload', 404);
}

async function presigned() {
  // By default the SDK signs the checksum of no body at all into the address of a PUT: another body does not match it.
  const Key = 'presigned';
  const strict = await getSignedUrl(s3, new sdk.PutObjectCommand({ Bucket, Key }), { expiresIn: 60 });
  const refused = await fetch(strict, { method: 'PUT', body: 'by its address' });
  assert.match(await refused.text(), /<Code>(BadDigest|XAmzContentChecksumMismatch)</);
  const presigner = client({ requestChecksumCalculation: 'WHEN_REQUIRED' });
  const put = await getSignedUrl(presigner, new sdk.PutObjectCommand({ Bucket, Key }), { expiresIn: 60 });
  assert.equal((await fetch(put, { method: 'PUT', body: 'by its address' })).status, 200);
  const get = await getSignedUrl(s3, new sdk.GetObjectCommand({
    Bucket, Key: 'presigned', ResponseContentDisposition: 'attachment; filename="a b.txt"',
  }), { expiresIn: 60 });
  const got = await fetch(get);
  assert.equal(await got.text(), 'by its address');
  assert.equal(got.headers.get('content-disposition'), 'attachment; filename="a b.txt"');
  assert.equal((await fetch(get.replace('/presigned', '/stream'))).status, 403);
  assert.equal((await fetch(get, { method: 'DELETE' })).status, 403);
}

async function deletes() {
  await fails(send('DeleteBucket'), 'BucketNotEmpty', 409);
  await send('DeleteObject', { Key: 'copy' });
  await sdk.waitUntilObjectNotExists({ client: s3, maxWaitTime: 10 }, { Bucket, Key: 'copy' });
  const { Contents } = await send('ListObjectsV2');
  const deleted = await send('DeleteObjects', { Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } });
  assert.equal(deleted.Deleted.length, Contents.length);
  assert.equal(deleted.Errors, undefined);
  assert.equal((await send('ListObjectsV2')).KeyCount, 0);
  await send('DeleteBucket');
  await sdk.waitUntilBucketNotExists({ client: s3, maxWaitTime: 10 }, { Bucket });
}

async function main() {
  for (const step of [buckets, objects, streams, listings, presigned, deletes]) await step();
  console.log('all well');
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
