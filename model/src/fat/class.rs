//! Classes: named placement rules. What a rule asks of vendors is in [`super::placement`].

use crate::command::Reply;
use crate::fat::rows::ClassRow;
use crate::fat::{cluster, keys, query};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CLASSES_MAX, COPIES_MAX, FRAME_BYTES, PIECES_MAX};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read};

/// Makes or changes a class. One that says what it said before keeps its settings version.
///
/// # Errors
/// Refused when a value is out of bounds or there are too many classes.
pub fn set<R: Read>(step: &mut Step<'_, R>, class: &ClassRow) -> Result<Reply, Stop> {
    check(class)?;
    let before = query::class(step, &class.name)?;
    let previous = before.as_ref().map_or(0, |row| row.settings_version);
    let mut row = ClassRow {
        settings_version: previous,
        ..class.clone()
    };
    if before.as_ref() == Some(&row) {
        return Ok(Reply::Done);
    }
    if before.is_none() && query::classes(step)?.len() >= CLASSES_MAX {
        return Err(Rejection::Invalid(format!("more than {CLASSES_MAX} classes")).into());
    }
    row.settings_version = cluster::next_settings_version(step, previous)?;
    step.put(Column::Classes, keys::class(&row.name), &row);
    Ok(Reply::Done)
}

/// The class named `class.0`, if it still has the settings version `class.1`.
///
/// # Errors
/// Refused when there is no such class, or it has changed.
pub fn current(rows: &impl Read, (name, version): &(String, u64)) -> Result<ClassRow, Stop> {
    let row: ClassRow = rows
        .row(Column::Classes, name.as_bytes())?
        .ok_or_else(|| Rejection::NoSuchClass(name.clone()))?;
    if row.settings_version != *version {
        return Err(Rejection::StaleSettings.into());
    }
    Ok(row)
}

fn check(class: &ClassRow) -> Result<(), Rejection> {
    let invalid = |what: String| Err(Rejection::Invalid(format!("class {:?}: {what}", class.name)));
    cluster::check_name("a class's name", &class.name)?;
    if !class
        .name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    {
        return invalid("a name of letters, digits, '_', '-' and '.' is needed".to_owned());
    }
    if !(1..=COPIES_MAX).contains(&class.copies) {
        return invalid(format!("copies must be 1 to {COPIES_MAX}"));
    }
    if class.zones > class.copies {
        return invalid("more zones than copies".to_owned());
    }
    if let Some(device_class) = &class.device_class {
        cluster::check_name("a device class", device_class)?;
    }
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&class.chunk_bytes)
        || !class.chunk_bytes.is_multiple_of(FRAME_BYTES)
    {
        return invalid(format!(
            "chunk bytes must be {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX} in steps of {FRAME_BYTES}"
        ));
    }
    if !(1..=PIECES_MAX).contains(&class.pieces) {
        return invalid(format!("pieces must be 1 to {PIECES_MAX}"));
    }
    Ok(())
}
