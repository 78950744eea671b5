"""pyarrow's own S3 client: Parquet files and a partitioned dataset, listings, random access, streams, copies and moves,
against the endpoint in AWS_ENDPOINT_URL. Prints `all well` at the end."""

import os

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileType, S3FileSystem

scheme, address = os.environ["AWS_ENDPOINT_URL"].split("://")
s3 = S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    endpoint_override=address,
    scheme=scheme,
    region="us-east-1",
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
)
BUCKET = "pyarrow"
ROWS = 200_000
s3.create_dir(BUCKET)
assert s3.get_file_info(BUCKET).type == FileType.Directory
assert s3.get_file_info(f"{BUCKET}/nothing").type == FileType.NotFound

table = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "vineyard": pa.array([f"vineyard {number % 97}" for number in range(ROWS)]),
        "price": pa.array([number * 0.25 for number in range(ROWS)]),
        "year": pa.array([1990 + number % 4 for number in range(ROWS)]),
    }
)

# One file, then a part of it: the footer, one row group, one column.
pq.write_table(table, f"{BUCKET}/one file.parquet", filesystem=s3, row_group_size=20_000)
assert pq.read_table(f"{BUCKET}/one file.parquet", filesystem=s3).equals(table)
with s3.open_input_file(f"{BUCKET}/one file.parquet") as file:
    parquet = pq.ParquetFile(file)
    assert parquet.metadata.num_rows == ROWS and parquet.num_row_groups == 10
    assert parquet.read_row_group(7, columns=["id"])["id"].to_pylist() == list(range(140_000, 160_000))
    file.seek(0)
    assert file.read(4) == b"PAR1"
    assert file.read_at(4, file.size() - 4) == b"PAR1"

# A dataset in folders, read back as a whole and by its filters.
ds.write_dataset(
    table, f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning=["year"], partitioning_flavor="hive"
)
dataset = ds.dataset(f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning="hive")
assert dataset.count_rows() == ROWS
assert len(dataset.files) == 4 and all("year=" in name for name in dataset.files)
assert dataset.to_table().sort_by("id").select(table.column_names).equals(table.cast(dataset.schema.empty_table().select(table.column_names).schema))
some = dataset.to_table(filter=(pc.field("year") == 1991) & (pc.field("id") < 1000), columns=["id"])
assert sorted(some["id"].to_pylist()) == list(range(1, 1000, 4))
ds.write_dataset(
    table.slice(0, 8), f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning=["year"],
    partitioning_flavor="hive", existing_data_behavior="delete_matching",
)
assert ds.dataset(f"{BUCKET}/dataset", filesystem=s3, partitioning="hive").count_rows() == 8

# Listings, flat and recursive.
listed = s3.get_file_info(FileSelector(BUCKET))
assert sorted((info.base_name, info.type) for info in listed) == [
    ("dataset", FileType.Directory),
    ("one file.parquet", FileType.File),
], listed
deep = s3.get_file_info(FileSelector(f"{BUCKET}/dataset", recursive=True))
assert sorted(info.path for info in deep if info.type == FileType.Directory) == [
    f"{BUCKET}/dataset/year={year}" for year in range(1990, 1994)
]

# Streams: what is larger than a part goes up in parts.
large = os.urandom(1 << 20) * 23 + b"end"
with s3.open_output_stream(f"{BUCKET}/streams/ünï +%20", metadata={"Content-Type": "application/x-wine"}) as stream:
    for at in range(0, len(large), 1_000_001):
        stream.write(large[at : at + 1_000_001])
with s3.open_input_stream(f"{BUCKET}/streams/ünï +%20") as stream:
    assert stream.metadata()["Content-Type"] == b"application/x-wine"
    assert stream.readall() == large
with s3.open_output_stream(f"{BUCKET}/streams/empty"):
    pass
assert s3.get_file_info(f"{BUCKET}/streams/empty").size == 0
s3.copy_file(f"{BUCKET}/streams/ünï +%20", f"{BUCKET}/streams/copy")
s3.move(f"{BUCKET}/streams/copy", f"{BUCKET}/streams/moved")
with s3.open_input_file(f"{BUCKET}/streams/moved") as file:
    assert file.read_at(10, 20_000_000) == large[20_000_000:20_000_010]
assert s3.get_file_info(f"{BUCKET}/streams/copy").type == FileType.NotFound

# Directories, made and taken away with what is in them.
s3.create_dir(f"{BUCKET}/made/deep")
assert s3.get_file_info(f"{BUCKET}/made/deep").type == FileType.Directory
s3.delete_dir(f"{BUCKET}/made")
s3.delete_file(f"{BUCKET}/streams/moved")
s3.delete_dir_contents(BUCKET)
assert s3.get_file_info(FileSelector(BUCKET, recursive=True)) == []
s3.delete_dir(BUCKET)
assert s3.get_file_info(BUCKET).type == FileType.NotFound
print("all well")
