//! Where the settings' values come from: the environment, a file that it names, or the default.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::SettingError;
use super::list::ALL;

/// What is set, and where.
pub struct Given(BTreeMap<&'static str, (String, Origin)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Environment,
    File(PathBuf),
    Default,
    Nowhere,
}

impl Given {
    /// Looks up every setting, `NAME` or `NAME_FILE`, in the environment. What is empty is not set.
    ///
    /// # Errors
    /// When both are set, or the file can't be read.
    pub fn read(environment: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let found = ALL.iter().map(|setting| {
            let name = setting.name;
            let value = match (environment(name), environment(&format!("{name}_FILE"))) {
                (Some(_), Some(_)) => return Err(SettingError::Both { name }),
                (Some(value), None) => (value, Origin::Environment),
                (None, Some(path)) => (content(name, Path::new(&path))?, Origin::File(path.into())),
                (None, None) if setting.default.is_empty() => (String::new(), Origin::Nowhere),
                (None, None) => (setting.default.to_owned(), Origin::Default),
            };
            Ok((name, value))
        });
        found.collect::<Result<_, _>>().map(Self)
    }

    /// What a setting was set to, if it was.
    pub fn get(&self, name: &str) -> Option<String> {
        let (value, origin) = self.0.get(name)?;
        matches!(origin, Origin::Environment | Origin::File(_)).then(|| value.clone())
    }

    /// An error may repeat a value, but not what stood in a file: the file may be another one than was meant.
    pub(super) fn without_content(&self, error: SettingError) -> SettingError {
        match (error, &self.0) {
            (SettingError::Value { name, should, .. }, given)
                if let Some((_, Origin::File(path))) = given.get(name) =>
            {
                let problem = format!("not usable as it stands in the file {}", path.display());
                SettingError::Wrong { name, problem, should }
            }
            (error, _) => error,
        }
    }
}

/// A file's text without the line's end that editors leave there.
fn content(name: &'static str, path: &Path) -> Result<String, SettingError> {
    let unreadable = |why: String| SettingError::Unreadable { name, path: path.to_owned(), why };
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let value = text.trim_end_matches(['\r', '\n']);
    if value.is_empty() { Err(unreadable("it is empty".to_owned())) } else { Ok(value.to_owned()) }
}

/// A line for each setting: its name, what is in force, and where that comes from. Without secrets.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in ALL {
            let Some((value, origin)) = self.0.get(setting.name) else { continue };
            let shown = format!("{}={}", setting.name, setting.show(value));
            match origin {
                Origin::Environment => writeln!(f, "{shown:<60}  environment")?,
                Origin::File(path) => writeln!(f, "{shown:<60}  file {}", path.display())?,
                Origin::Default => writeln!(f, "{shown:<60}  default")?,
                Origin::Nowhere => writeln!(f, "{shown:<60}  not set")?,
            }
        }
        Ok(())
    }
}
