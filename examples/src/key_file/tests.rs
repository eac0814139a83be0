//! What a key file promises.

use std::fs;

use serde_json::{Value, json};

use super::*;

struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("key.json")
    }

    fn written(value: &Value) -> Self {
        let fixture = Self::new();
        fs::write(fixture.path(), value.to_string()).unwrap();
        fixture
    }

    fn fault(&self) -> Fault {
        KeyFile::open(&self.path()).unwrap_err().fault
    }
}

fn valid() -> Value {
    let secret = SecretKey::from_seed([0xaa; 32]);
    serde_json::to_value(Record::new(&secret, Timestamp::UNIX_EPOCH)).unwrap()
}

fn altered(field: &str, value: impl Into<Value>) -> Fixture {
    let mut record = valid();
    record[field] = value.into();
    Fixture::written(&record)
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_new_key_is_the_same_when_it_is_read_again() {
    let fixture = Fixture::new();
    let first = KeyFile::open(&fixture.path()).unwrap();
    let second = KeyFile::open(&fixture.path()).unwrap();
    assert!(first.created && !second.created);
    assert_eq!(first.secret.seed(), second.secret.seed());
    assert_eq!(second.exposed, None);
    assert_eq!(
        fs::read_dir(fixture.0.path()).unwrap().count(),
        1,
        "no other file is left behind"
    );
}

#[test]
fn two_new_keys_differ() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let one = KeyFile::open(&one.path()).unwrap().secret.public_key();
    assert_ne!(
        one,
        KeyFile::open(&other.path()).unwrap().secret.public_key()
    );
}

#[test]
fn the_format_is_that_of_the_protocol() {
    let secret = SecretKey::from_seed([0xaa; 32]);
    let both = [[0xaa; 32], *secret.public_key().as_bytes()].concat();
    let expected = json!({
        "version": 1,
        "public_key": base64(secret.public_key().as_bytes()),
        "private_key": base64(&both),
        "created_at": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(valid(), expected);
    let fixture = Fixture::written(&expected);
    assert_eq!(
        KeyFile::open(&fixture.path()).unwrap().secret.seed(),
        &[0xaa; 32]
    );
}

#[cfg(unix)]
#[test]
fn it_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let fixture = Fixture::new();
    KeyFile::open(&fixture.path()).unwrap();
    let mode = fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = KeyFile::open(&fixture.path()).unwrap().exposed.unwrap();
    assert_eq!(exposed.mode, 0o640);
    let path = fixture.path();
    let path = path.display();
    assert_eq!(
        exposed.to_string(),
        format!("others can get at the key in {path} (mode 0640); run: chmod 600 {path}")
    );
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let fixture = Fixture::new();
    fs::write(fixture.path(), "").unwrap();
    assert!(matches!(
        fixture.fault(),
        Fault::NoKeyFile { line: 1, column: 0 }
    ));
    let error = create(&fixture.path(), &SecretKey::from_seed([1; 32])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(fixture.path()).unwrap(), b"");
    assert_eq!(fs::read_dir(fixture.0.path()).unwrap().count(), 1);
}

#[test]
fn many_at_once_get_the_same_key() {
    let fixture = Fixture::new();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| KeyFile::open(&fixture.path()).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        keys.iter()
            .all(|key| key.secret.seed() == keys[0].secret.seed())
    );
    assert_eq!(keys.iter().filter(|key| key.created).count(), 1);
}

#[test]
fn every_part_is_checked() {
    let secret = SecretKey::from_seed([0xaa; 32]);
    let public = *secret.public_key().as_bytes();
    let other = *SecretKey::from_seed([0xbb; 32]).public_key().as_bytes();

    assert!(matches!(
        altered("version", 2).fault(),
        Fault::UnknownVersion(2)
    ));
    let mismatches = [
        ("public_key", base64(&other)),
        ("private_key", base64(&[[0xbb; 32], public].concat())),
        ("private_key", base64(&[[0xaa; 32], other].concat())),
    ];
    for (field, value) in mismatches {
        assert!(
            matches!(altered(field, value).fault(), Fault::Mismatch),
            "{field}"
        );
    }
    let malformed = [
        ("public_key", base64(&public[1..]), 32),
        ("public_key", String::from("not Base64"), 32),
        ("private_key", base64(&public), 64),
        ("private_key", String::new(), 64),
    ];
    for (field, value, expected) in malformed {
        let fault = altered(field, value).fault();
        let Fault::Malformed {
            field: found,
            expected: length,
        } = fault
        else {
            panic!("{fault}")
        };
        assert_eq!((found, length), (field, expected));
    }
    for field in ["version", "public_key", "private_key", "created_at"] {
        let mut record = valid();
        record.as_object_mut().unwrap().remove(field);
        assert!(
            matches!(Fixture::written(&record).fault(), Fault::NoKeyFile { .. }),
            "{field}"
        );
    }
}

#[test]
fn an_error_names_the_file_and_not_the_key() {
    let secret = valid()["private_key"].clone();
    let fixture = Fixture::written(&secret);
    let error = KeyFile::open(&fixture.path()).unwrap_err().to_string();
    assert!(
        error.contains(&*fixture.path().to_string_lossy()),
        "{error}"
    );
    assert!(!error.contains(secret.as_str().unwrap()), "{error}");
}

#[test]
fn what_is_too_long_or_no_file_is_said() {
    let fixture = Fixture::new();
    fs::write(fixture.path(), vec![b' '; 16_385]).unwrap();
    assert!(matches!(fixture.fault(), Fault::TooLong));
    let directory = KeyFile::open(fixture.0.path()).unwrap_err();
    assert!(matches!(directory.fault, Fault::Read(_)), "{directory}");
    let nowhere = KeyFile::open(&fixture.0.path().join("no/key.json")).unwrap_err();
    assert!(matches!(nowhere.fault, Fault::Create(_)), "{nowhere}");
}
