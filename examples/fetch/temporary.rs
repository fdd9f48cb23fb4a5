//! Files under a name of this run's own, until they are whole and renamed.
//!
//! In goes the path that a file will have; out comes an empty file beside it, which nobody else
//! has. The name begins with a dot, as no name does that comes of a URL.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the file, opened for writing. `word` is what tells it from this run's others.
pub(crate) fn create(
    path: &Path,
    word: &str,
    options: &mut OpenOptions,
) -> io::Result<(File, PathBuf)> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let stem = format!(".fetch-{}-{word}", std::process::id());
    options.write(true).create_new(true);
    for nth in 0..NAMES_MAX {
        let name = if nth == 0 { format!("{stem}.part") } else { format!("{stem}-{nth}.part") };
        let temporary = parent.join(name);
        let opened = options.open(&temporary);
        // One that was killed had this process's number: in containers it is often the same.
        let is_taken = opened.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists);
        if !is_taken {
            return opened.map(|file| (file, temporary));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

const NAMES_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::super::part::tests::scratch;
    use super::*;

    #[test]
    fn what_one_that_was_killed_has_left_is_in_nobodys_way() {
        let directory = scratch("temporary");
        let path = directory.join("x");
        let names: Vec<_> = (0..3)
            .map(|_| create(&path, "1", &mut File::options()).unwrap().1)
            .map(|path| path.file_name().unwrap().to_owned().into_string().unwrap())
            .collect();
        let stem = format!(".fetch-{}-1", std::process::id());
        let expected = [".part", "-1.part", "-2.part"].map(|end| format!("{stem}{end}"));
        assert_eq!(names, expected);
        let nowhere = create(&directory.join("no/x"), "1", &mut File::options());
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
