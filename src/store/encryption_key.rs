//! The node's encryption key: where it comes from, and the proof that it is this database's.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretBox};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::id::random_bytes;
use crate::store::data_directory::{refused, write_once};
use crate::store::database::Begun;
use crate::store::error::{Error, OpenError};
use crate::store::migrate;
use crate::store::seal::{Key, KeyId, Place, Sealer};
use crate::store::sql;

const FILE: &str = "encryption.key";
const VARIABLE: &str = "SWITCHBOARD_ENCRYPTION_KEY";

/// What a check value says when it is opened.
const CHECK: &[u8] = b"switchboard encryption check";
const CHECK_PLACE: Place<'static> = Place { table: "encryption_check", column: "sealed", id: "1" };

/// A key that was found, and where, in words for a refusal.
struct Found {
    key: Key,
    origin: String,
}

/// Finds the key and proves it by the database's check value. While the database has none, a missing key is made and
/// [`write_check`] is to be called in the same transaction. `has_tables`: whether the schema was ever made.
pub(crate) async fn prove(
    begun: &mut Begun,
    place: &str,
    data: &Path,
    given: Option<&Arc<SecretBox<[u8; 32]>>>,
    has_tables: bool,
) -> Result<Sealer, OpenError> {
    let check = if has_tables { read_check(begun).await? } else { None };
    let found = find(data, given);
    let Some((key_id, check)) = check else {
        let key = match found? {
            Some(found) => found.key,
            None => make(data)?,
        };
        return Ok(Sealer::new(&key));
    };
    let path = data.join(FILE);
    let to_copy = format!("use key id {}; copy it from one of them", show(key_id));
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Err(OpenError::Refused(format!(
                "{} is missing, but the database {place} holds secrets sealed with a key. {}",
                path.display(),
                way_out(begun, data, &to_copy).await
            )));
        }
        Err(error) => return Err(OpenError::Refused(format!("{error} {}", way_out(begun, data, &to_copy).await))),
    };
    let sealer = Sealer::new(&found.key);
    if sealer.open(CHECK_PLACE, &check).is_some_and(|plain| *plain == CHECK) {
        return Ok(sealer);
    }
    let (own, wanted) = (show(sealer.key_id()), show(key_id));
    let text = format!(
        "the encryption key in {} (id {own}) is not the one the database {place} was sealed with (id {wanted}). {}",
        found.origin,
        way_out(begun, data, "use that one").await
    );
    Err(OpenError::OtherKey { text, own, wanted })
}

/// Writes the check value, unless there is one.
pub(crate) async fn write_check(begun: &mut Begun, sealer: &Sealer, at: Timestamp) -> Result<(), OpenError> {
    sql::query(
        "insert into encryption_check (id, key_id, sealed, created_at) values (1, $1, $2, $3) on conflict (id) do nothing",
    )
    .bind(sealer.key_id().to_vec())
    .bind(sealer.seal(CHECK_PLACE, CHECK))
    .bind(at.as_micros())
    .execute(begun.on())
    .await
    .map_err(Error::from)?;
    Ok(())
}

async fn read_check(begun: &mut Begun) -> Result<Option<(KeyId, Vec<u8>)>, OpenError> {
    let row: Option<(Vec<u8>, Vec<u8>)> = sql::query_as("select key_id, sealed from encryption_check")
        .fetch_optional(begun.on())
        .await
        .map_err(Error::from)?;
    Ok(row.map(|(key_id, sealed)| (key_id.try_into().unwrap_or_default(), sealed)))
}

/// The key from the environment, or else from its file; none if it stands in neither.
fn find(data: &Path, given: Option<&Arc<SecretBox<[u8; 32]>>>) -> Result<Option<Found>, OpenError> {
    if let Some(given) = given {
        return Ok(Some(Found { key: Zeroizing::new(*given.expose_secret()), origin: VARIABLE.to_owned() }));
    }
    let path = data.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused("read", &path, &error)),
    };
    let problem = match STANDARD.decode(text.trim()).map(Zeroizing::new) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(key) => {
                return Ok(Some(Found { key: Zeroizing::new(key), origin: path.display().to_string() }));
            }
            Err(_) => format!("it is {} bytes long", bytes.len()),
        },
        Err(_) => "it is not base64".to_owned(),
    };
    Err(OpenError::Refused(format!(
        "{} holds no encryption key: {problem}; it must hold 32 bytes in base64 (44 characters).",
        path.display()
    )))
}

/// Makes a key and its file; the key of the file if another process was faster.
fn make(data: &Path) -> Result<Key, OpenError> {
    let path = data.join(FILE);
    let key: Key = Zeroizing::new(random_bytes());
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
    if write_once(&path, text.as_bytes()).map_err(|error| refused("write", &path, &error))? {
        return Ok(key);
    }
    match find(data, None)? {
        Some(found) => Ok(found.key),
        None => Err(refused("read", &path, &std::io::ErrorKind::NotFound.into())),
    }
}

/// A key id as people read it.
pub(crate) fn show(key_id: KeyId) -> String {
    use std::fmt::Write as _;
    key_id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Who has the right key, and what to do. `others`: what is to be said of the nodes that have it.
async fn way_out(begun: &mut Begun, data: &Path, others: &str) -> String {
    let nodes = migrate::registered(begun).await;
    let others = if nodes.is_empty() {
        "No node is registered in this database yet.".to_owned()
    } else {
        format!("The nodes registered in this database {others}: {nodes}.")
    };
    let is_alone = if begun.is_postgres() {
        "If it is lost for good, so are the sealed secrets: start with an empty database (--database)."
    } else {
        "If it is lost for good, so are the sealed secrets: start with an empty directory (--data)."
    };
    format!(
        "{others} Put the key into {} (44 characters of base64) or into {VARIABLE}, and start again. \
         {is_alone}",
        data.join(FILE).display()
    )
}
