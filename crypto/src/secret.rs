//! `secret`: text or a file, as it is or in base 64, which may be encrypted by AES-256 in CBC mode with another
//! secret. Source: QEMU `crypto/secret.c`, `crypto/secret_common.c`.

use std::sync::{Arc, OnceLock};

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, KeyIvInit};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use qom::{
    Class, Object, ObjectBase, Property, PropertyInfo, Result, UserCreatable, bail, object_get_objects_root,
};

/// AES's block, in bytes.
const BLOCK: usize = 16;
/// AES-256's key, in bytes.
const KEY: usize = 32;

/// As lenient as GLib's decoder.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

qom::property_enum! {
    /// What a secret's data look like.
    pub enum SecretFormat: "QCryptoSecretFormat" {
        Raw = "raw", Base64 = "base64",
    }
}

#[allow(clippy::derivable_impls)] // The macro declares it.
impl Default for SecretFormat {
    fn default() -> Self {
        SecretFormat::Raw
    }
}

/// A secret.
#[derive(Object)]
#[object(name = "secret", parent = ObjectBase, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct Secret {
    parent: ObjectBase,
    #[property]
    format: Property<SecretFormat>,
    #[property]
    keyid: Property<Option<String>>,
    #[property]
    iv: Property<Option<String>>,
    #[property]
    data: Property<Option<String>>,
    #[property]
    file: Property<Option<String>>,
    /// What it comes to.
    raw: OnceLock<Vec<u8>>,
}

qom::type_init!(Secret);

fn class_init(class: &mut Class) {
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| Ok(o.cast::<Secret>().is_some_and(|s| s.raw.get().is_some()).into()))),
        ..PropertyInfo::new("loaded", "bool")
    });
}

/// The bytes of the secret that users know by `id`.
///
/// # Errors
/// When there is none, or another object has the id.
pub fn qcrypto_secret_lookup(id: &str) -> Result<Vec<u8>> {
    let Some(object) = object_get_objects_root().child(id) else { bail!("No secret with id '{id}'") };
    let Some(secret) = object.cast::<Secret>() else { bail!("Object with id '{id}' is not a secret") };
    match secret.raw.get() {
        Some(raw) => Ok(raw.clone()),
        None => bail!("Secret with id '{id}' has no data"),
    }
}

impl Secret {
    fn load(&self) -> Result<Vec<u8>> {
        match (self.file.get(), self.data.get()) {
            (Some(_), Some(_)) => bail!("'file' and 'data' are mutually exclusive"),
            (Some(file), None) => {
                std::fs::read(&file).or_else(|error| bail!("Unable to read {file}: {error}"))
            }
            (None, Some(data)) => Ok(data.into_bytes()),
            (None, None) => bail!("Either 'file' or 'data' must be provided"),
        }
    }

    fn decrypt(&self, mut data: Vec<u8>, keyid: &str) -> Result<Vec<u8>> {
        let key = qcrypto_secret_lookup(keyid)?;
        if key.len() != KEY {
            bail!("Key should be 32 bytes in length");
        }
        let Some(iv) = self.iv.get() else { bail!("IV is required to decrypt secret") };
        let iv = decode(iv.as_bytes())?;
        if iv.len() != BLOCK {
            bail!("IV should be 16 bytes in length not {}", iv.len());
        }
        let decrypted = cbc::Decryptor::<aes::Aes256>::new_from_slices(&key, &iv)
            .ok()
            .and_then(|cipher| cipher.decrypt_padded_mut::<NoPadding>(&mut data).ok());
        let Some(text) = decrypted else {
            bail!("Length {} must be a multiple of block size {BLOCK}", data.len())
        };
        let padding = text.last().copied().unwrap_or(0);
        let text = text.len().checked_sub(padding.into()).and_then(|length| text.get(..length));
        match text {
            Some(text) if (1..=BLOCK).contains(&padding.into()) => Ok(text.to_vec()),
            _ => bail!("Incorrect number of padding bytes ({padding}) found on decrypted data"),
        }
    }
}

impl UserCreatable for Secret {
    fn complete(self: Arc<Self>) -> Result<()> {
        let mut data = self.load()?;
        if self.format.get() == SecretFormat::Base64 {
            data = decode(&data)?;
        }
        if let Some(keyid) = self.keyid.get() {
            data = self.decrypt(data, &keyid)?;
        }
        let _ = self.raw.set(data);
        Ok(())
    }
}

fn decode(text: &[u8]) -> Result<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\n').collect();
    BASE64.decode(text).or_else(|_| bail!("Base64 data contains invalid characters"))
}
