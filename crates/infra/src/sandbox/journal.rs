//! The sandbox's memory: a file of JSON lines that is only appended to. What a kill tore off the last line
//! is dropped when the file is next opened.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use super::books::Entry;

/// A file of entries, and how much of it is whole.
pub(super) struct Journal {
    file: File,
    /// Bytes up to the end of the last whole line.
    length: u64,
}

impl Journal {
    /// Opens or creates the file and hands over what it holds, the oldest entry first.
    pub(super) fn open(path: &Path, mut apply: impl FnMut(Entry)) -> io::Result<Journal> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut length, mut number) = (Vec::new(), 0_u64, 1_u64);
        // Bytes, not a String: a line may be torn inside a character.
        while reader.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
            apply(serde_json::from_slice(&line).map_err(|error| foreign(path, number, &error.to_string()))?);
            length += line.len() as u64;
            number += 1;
            line.clear();
        }
        // Whatever a kill tore, it left the beginning. Anything else is someone's file, not ours to cut.
        if line.first().is_some_and(|byte| *byte != b'{') {
            return Err(foreign(path, number, "it is no object"));
        }
        drop(reader);
        file.set_len(length)?;
        Ok(Journal { file, length })
    }

    /// Writes the entry with one call, so that a kill leaves all of it or a torn line.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // An earlier append may have failed halfway, on a full disk say, and left a torn line behind.
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(&line)?;
        self.length += line.len() as u64;
        Ok(())
    }
}

fn foreign(path: &Path, line: u64, why: &str) -> io::Error {
    let path = path.display();
    let text = format!("line {line} of the sandbox's journal {path} is not an entry: {why}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
