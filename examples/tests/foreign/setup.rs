//! Gets the foreign clients ready to run: their packages go into folders under the target folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pinch_conformance::packages::{self, Unavailable};
use tokio::process::Command;

/// What a foreign client is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Python,
}

/// How a foreign client is started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) language: Language,
    interpreter: PathBuf,
    script: PathBuf,
    folder: PathBuf,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command
            .arg(&self.script)
            .current_dir(&self.folder)
            // Python's: nothing is written beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

impl Language {
    /// The client in this language, ready to run for `test`. If that can't be had, this says so
    /// and returns `None`; where CI is set, it panics instead.
    pub(crate) fn program(self, test: &str) -> Option<Program> {
        static NODE: OnceLock<Result<Program, Unavailable>> = OnceLock::new();
        static PYTHON: OnceLock<Result<Program, Unavailable>> = OnceLock::new();
        let program = match self {
            Self::Node => NODE.get_or_init(node),
            Self::Python => PYTHON.get_or_init(python),
        };
        packages::or_skip(test, program.clone())
    }

    /// The tool of the command line, of which there is one for Node.
    pub(crate) fn tool(test: &str) -> Option<Program> {
        let client = Self::Node.program(test)?;
        Some(Program {
            script: source("tool.mjs"),
            ..client
        })
    }
}

fn node() -> Result<Program, Unavailable> {
    Ok(Program {
        language: Language::Node,
        folder: packages::npm(&target(), "node", &source(""))?,
        interpreter: "node".into(),
        script: source("client.mjs"),
    })
}

fn python() -> Result<Program, Unavailable> {
    Ok(Program {
        language: Language::Python,
        interpreter: packages::pip(&target(), "python", &source("requirements.txt"), &[])?,
        script: source("client.py"),
        folder: target(),
    })
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/foreign")
        .join(name)
}
