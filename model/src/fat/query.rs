//! Pure questions about the FAT.
