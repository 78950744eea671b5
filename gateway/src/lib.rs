//! Ullage's S3 gateway: the S3 protocol in front, File Allocation Table flows
//! behind. Only [`s3`] knows S3's words.

pub mod s3;
