//! Cookies in files: read before the run, written after it.
//!
//! In go files of the format that curl and wget use; out comes the reactor's jar, and at the end
//! the file again, written under a temporary name and renamed, readable by its owner only.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use whippet::CookieJar;

use super::temporary;

/// What the command line says of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cookies {
    /// Read, in this order.
    pub(crate) from: Vec<PathBuf>,
    /// Written at the end.
    pub(crate) to: Option<PathBuf>,
}

impl Cookies {
    /// Fills the jar, and finds out whether it can be written in the end. An error is one line.
    pub(crate) fn load(&self, jar: &mut CookieJar) -> Result<(), String> {
        for path in &self.from {
            let text = read(path).map_err(|error| explain("--cookie", path, &error))?;
            let passed_over = jar.read_netscape(&text, now());
            if passed_over > 0 {
                eprintln!(
                    "fetch: --cookie {}: {passed_over} lines are no cookies and were passed over",
                    path.display()
                );
            }
        }
        let Some(path) = &self.to else { return Ok(()) };
        try_out(path).map_err(|error| explain("--cookie-jar", path, &error))
    }

    /// Writes the jar, if that was asked for. An error is one line.
    pub(crate) fn save(&self, jar: &CookieJar) -> Result<(), String> {
        let Some(path) = &self.to else { return Ok(()) };
        let text = jar.to_netscape(now());
        write(path, &text).map_err(|error| explain("--cookie-jar", path, &error))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn create(path: &Path) -> io::Result<(File, PathBuf)> {
    temporary::create(path, "cookies", File::options().mode(OWNER_ONLY))
}

/// Whether a file can be written there. None is left.
fn try_out(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => Ok(()),
        _ => fs::remove_file(create(path)?.1),
    }
}

/// What is no regular file, such as /dev/stdout, is written as it is.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return File::options().write(true).open(path)?.write_all(text);
    }
    let (mut file, temporary) = create(path)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // There is nobody left to tell; the name says that it is partial.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn explain(option: &str, path: &Path, error: &io::Error) -> String {
    format!("{option} {}: {error}", path.display())
}

/// Cookies end by the calendar.
#[allow(clippy::disallowed_methods, reason = "the program's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Many times what a jar can keep.
const FILE_BYTES_MAX: u64 = 64 << 20;
const OWNER_ONLY: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_jar_comes_round_in_a_file_of_its_owners() {
        let directory = std::env::temp_dir().join(format!("fetch-cookies-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("jar");
        let url = "http://a.example/".parse().unwrap();
        let mut jar = CookieJar::new();
        jar.store(&url, b"a=1; Path=/x; HttpOnly", now()).unwrap();
        let both = Cookies { from: vec![path.clone()], to: Some(path.clone()) };
        assert!(both.load(&mut jar).unwrap_err().contains("jar: "));
        for _ in 0..2 {
            both.save(&jar).unwrap();
            jar = CookieJar::new();
            both.load(&mut jar).unwrap();
            assert_eq!(jar.len(), 1);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let nowhere = Cookies { from: Vec::new(), to: Some(directory.join("no/jar")) };
        assert!(nowhere.load(&mut jar).unwrap_err().starts_with("--cookie-jar "));
        let folder = Cookies { from: Vec::new(), to: Some(directory.clone()) };
        assert!(folder.load(&mut jar).unwrap_err().contains("directory"));
        assert!(nowhere.save(&jar).unwrap_err().starts_with("--cookie-jar "));
        let null = Cookies { from: Vec::new(), to: Some("/dev/null".into()) };
        null.save(&jar).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }
}
