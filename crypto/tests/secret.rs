//! Secrets as users give them. What is encrypted here was by
//! `openssl enc -aes-256-cbc -K 6b…6b -iv 00…00 -base64`.

use crypto::qcrypto_secret_lookup;
use qom::property::PropertyInput;
use qom::user_creatable_add;

/// 32 times `k`.
const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
const IV: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
/// `letters`, encrypted with both.
const LETTERS: &str = "slltkcwqG4jtphvezLSYbQ==";

fn add(id: &str, options: &[(&str, &str)]) -> Result<(), String> {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let options = options.iter().map(|(name, value)| (*name, PropertyInput::Text(value)));
    user_creatable_add("secret", id, options).map(drop).map_err(|error| error.to_string())
}

#[test]
fn secrets_are_text_files_or_base_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, [0, 255, 10]).expect("a file");
    add("text", &[("data", "abc")]).expect("text");
    add("file", &[("file", file.to_str().expect("UTF-8"))]).expect("a file");
    add("base64", &[("data", "YWJj\nZA"), ("format", "base64")]).expect("base 64, without padding");
    assert_eq!(qcrypto_secret_lookup("text").expect("text"), b"abc");
    assert_eq!(qcrypto_secret_lookup("file").expect("a file"), [0, 255, 10]);
    assert_eq!(qcrypto_secret_lookup("base64").expect("base 64"), b"abcd");
}

#[test]
fn secrets_are_encrypted_with_another() {
    add("key", &[("data", KEY), ("format", "base64")]).expect("the key");
    let encrypted = [("data", LETTERS), ("format", "base64"), ("keyid", "key"), ("iv", IV)];
    add("letters", &encrypted).expect("an encrypted secret");
    assert_eq!(qcrypto_secret_lookup("letters").expect("what was encrypted"), b"letters");
}

#[test]
fn what_cannot_be_a_secret_is_refused() {
    add("master", &[("data", KEY), ("format", "base64")]).expect("the key");
    add("short", &[("data", "k")]).expect("a short one");
    let refused = |options: &[(&str, &str)]| add("refused", options).expect_err("refused");
    assert_eq!(refused(&[]), "Either 'file' or 'data' must be provided");
    assert_eq!(refused(&[("data", "x"), ("file", "y")]), "'file' and 'data' are mutually exclusive");
    assert_eq!(refused(&[("data", "%"), ("format", "base64")]), "Base64 data contains invalid characters");
    assert_eq!(refused(&[("data", "x"), ("keyid", "none")]), "No secret with id 'none'");
    assert_eq!(refused(&[("data", "x"), ("keyid", "short")]), "Key should be 32 bytes in length");
    let encrypted = |data, iv| refused(&[("data", data), ("keyid", "master"), ("iv", iv)]);
    assert_eq!(refused(&[("data", "x"), ("keyid", "master")]), "IV is required to decrypt secret");
    assert_eq!(encrypted("x", "AAAA"), "IV should be 16 bytes in length not 3");
    assert_eq!(encrypted("x", IV), "Length 1 must be a multiple of block size 16");
    let padding = "Incorrect number of padding bytes (38) found on decrypted data";
    assert_eq!(encrypted("0123456789abcdef", IV), padding);
    assert_eq!(encrypted("", IV), "Incorrect number of padding bytes (0) found on decrypted data");
}
