//! Scalars of a run as `TensorBoard` event files.
//!
//! An event file is a sequence of records (`TFRecord`): the length, its checksum, a protocol
//! buffer, its checksum. Only the few fields that scalars need are written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// An event file that is appended to during a run.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Creates a file in `folder` for a run that continues at `step`: `TensorBoard` discards the
    /// values that earlier files have for `step` and later steps.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn create(folder: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io("making the TensorBoard folder", folder, &error))?;
        let stamp = seconds_now() as u64;
        // TensorBoard reads the files in the order of their names.
        let mut free = (0..).map(|number: u64| {
            folder.join(format!("events.out.tfevents.{stamp:010}.factorexe.{number:04}"))
        });
        let path = free
            .find(|path| !path.exists())
            .ok_or_else(|| Error::internal("no free name for events"))?;
        let file = File::create_new(&path)
            .map_err(|error| Error::io("making the TensorBoard file", &path, &error))?;
        let mut events = Self { file, path };
        let mut version = event(0);
        version.bytes(3, b"brain.Event:2");
        let mut session = Message::default();
        session.varint(1, 1); // SessionLog.status = START
        let mut start = event(step);
        start.bytes(7, &session.0);
        events.append(&[record(&version.0), record(&start.0)].concat())?;
        Ok(events)
    }

    /// Writes the named scalars of one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, value as f32);
            summary.bytes(1, &entry.0);
        }
        let mut event = event(step);
        event.bytes(5, &summary.0);
        self.append(&record(&event.0))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io("writing TensorBoard events", &self.path, &error))
    }
}

fn event(step: u64) -> Message {
    let mut event = Message::default();
    event.double(1, seconds_now());
    event.varint(2, step);
    event
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A protocol buffer under construction: fields of (number << 3 | wire type) and value.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.raw_varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.raw_varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// The payloads of an event file's records, each checked against its checksum.
///
/// # Errors
/// The file cannot be read, or a record is damaged.
pub fn read_records(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io("reading events", path, &error))?;
    let damaged = || Error::input("a record of the event file is damaged").at(path.display());
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (length, after) = checked(rest, 8).ok_or_else(damaged)?;
        let length = u64::from_le_bytes(length.try_into().map_err(|_| damaged())?);
        let (data, after) = checked(after, length as usize).ok_or_else(damaged)?;
        records.push(data.to_vec());
        rest = after;
    }
    Ok(records)
}

fn checked(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (data, rest) = bytes.split_at_checked(length)?;
    let (checksum, rest) = rest.split_at_checked(4)?;
    (checksum == masked_crc(data).to_le_bytes()).then_some((data, rest))
}

/// Masked CRC-32C of `TFRecord`.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC with Castagnoli's polynomial; RFC 3720, appendix B.4.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc: u32, byte| {
        CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_of_the_standard_text_is_the_published_one() {
        // The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
