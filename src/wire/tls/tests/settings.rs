//! Settings that cannot be used name what is wrong; those that can have their effect.

use super::*;

fn complaint(settings: &TlsSettings) -> String {
    Config::new(settings).unwrap_err().to_string()
}

#[test]
fn bad_authorities_are_named() {
    let pki = Pki::new();
    let none = TlsSettings::new().with_roots(Roots::OnlyAdded);
    assert_eq!(complaint(&none), "no certificate authority is trusted: none was added");

    let key_only = pki.settings().add_ca_pem(pki.leaf(HOST).key.serialize_pem().into_bytes());
    assert_eq!(complaint(&key_only), "added CA 2: no CERTIFICATE section in the PEM");

    let mut cut = pki.pem();
    cut.extend_from_slice(&pki.pem()[..100]);
    let said = complaint(&TlsSettings::new().add_ca_pem(cut));
    assert_eq!(said, "added CA 1: PEM section 2: its END line is missing");

    let der = TlsSettings::new().add_ca_der(&b"not DER"[..]);
    let said = complaint(&der);
    assert!(said.starts_with("added CA 1: certificate 1 of 1 is unusable as a root: "), "{said}");
}

#[test]
fn bad_client_certificates_are_named_without_quoting_them() {
    let pki = Pki::new();
    let (leaf, other) = (pki.leaf("client.example"), pki.leaf("other.example"));
    let with = |chain: &str, key: &str| {
        let (chain, key) = (chain.as_bytes().to_vec(), key.as_bytes().to_vec());
        complaint(&pki.settings().with_client_certificate(chain, key))
    };
    let key = leaf.key.serialize_pem();
    assert_eq!(
        with(&leaf.pem, &other.key.serialize_pem()),
        "client key: it is not the key of the client certificate"
    );
    assert_eq!(
        with(&leaf.pem, &leaf.pem),
        "client key: no unencrypted PRIVATE KEY section in the PEM"
    );
    assert_eq!(with(&key, &key), "client certificate: no CERTIFICATE section in the PEM");
    assert_eq!(
        with(&leaf.pem, &key.replace("-----END", "=====END")),
        "client key: its END line is missing"
    );
    assert!(with(&leaf.pem, &key.replace('M', "!")).starts_with("client key: "));
}

/// As `openssl x509 -req` makes them without a file of extensions.
#[test]
fn a_client_certificate_of_an_old_version_is_said_to_be_one() {
    let (chain, key) = (OLD_CERTIFICATE.as_bytes(), OLD_KEY.as_bytes());
    let old = TlsSettings::new().with_client_certificate(chain, key);
    assert_eq!(complaint(&old), "client certificate: the certificate is not of version 3 of X.509");
}

/// A private key's bytes, and the same as they are printed in its PEM.
#[test]
fn a_configuration_is_printed_without_its_private_key() {
    let pki = Pki::new();
    let leaf = pki.leaf("client.example");
    let pem = leaf.key.serialize_pem();
    let settings =
        pki.settings().with_client_certificate(leaf.pem.into_bytes(), pem.clone().into_bytes());
    let printed = format!("{settings:?} {:?}", Config::new(&settings).unwrap());
    let der = leaf.key.serialize_der();
    let numbers = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    assert!(pem.lines().filter(|line| line.len() > 20).count() > 1);
    for line in pem.lines().filter(|line| line.len() > 20) {
        assert!(!printed.contains(line) && !printed.contains(&numbers(line.as_bytes())));
    }
    for part in der.chunks_exact(8) {
        assert!(!printed.contains(&numbers(part)));
    }
}

#[test]
fn a_bad_server_name_is_named() {
    let said = complaint(&TlsSettings::new().with_server_name("not a name"));
    assert_eq!(said, "server name \"not a name\" is no DNS name and no IP address");
}

#[test]
#[cfg(not(feature = "native-roots"))]
fn native_roots_need_their_feature() {
    let said = complaint(&TlsSettings::new().with_roots(Roots::Native));
    assert_eq!(said, "native roots: the feature native-roots is not built in");
}

#[test]
#[cfg(feature = "native-roots")]
fn native_roots_take_added_ones_too() {
    let pki = Pki::new();
    let settings = TlsSettings::new().with_roots(Roots::Native).add_ca_pem(pki.pem());
    let config = Config::new(&settings).unwrap();
    Link::open(&config, &Arc::new(pki.server(&version::TLS13)));
}

#[test]
fn the_key_log_goes_where_it_was_told_to() {
    let pki = Pki::new();
    let directory = std::env::temp_dir().join(format!("whippet-keys-{}", std::process::id()));
    let missing = pki.settings().with_key_log(directory.join("missing").join("keys"));
    let said = complaint(&missing);
    assert!(said.starts_with("key log ") && said.contains("missing"), "{said}");

    let path = directory.with_extension("log");
    let config = Config::new(&pki.settings().with_key_log(&path)).unwrap();
    Link::open(&config, &Arc::new(pki.server(&version::TLS13)));
    let written = std::fs::read_to_string(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions();
    std::fs::remove_file(&path).unwrap();
    assert!(written.lines().any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")));
    assert!(written.lines().all(|line| line.split(' ').count() == 3));
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let _ = mode;
}

#[test]
fn a_configuration_of_the_callers_own_speaks_http_1_1_too() {
    let pki = Pki::new();
    let mut theirs =
        rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots_of(&pki))
            .with_no_client_auth();
    theirs.alpn_protocols = vec![b"h2".to_vec()];
    let settings = TlsSettings::new().with_client_config(Arc::new(theirs));
    let link = Link::open(&Config::new(&settings).unwrap(), &Arc::new(pki.server(&version::TLS13)));
    assert_eq!(link.session.alpn(), Some(&b"http/1.1"[..]));

    let wrong = TlsSettings::new().with_custom(Arc::new("a string"));
    assert!(complaint(&wrong).contains("not one of rustls"));
}

#[test]
fn configurations_are_equal_to_their_clones_only() {
    let pki = Pki::new();
    let config = pki.config();
    assert!(config == config.clone());
    assert!(config != pki.config());
}

const OLD_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUIyP4am66Oypq9Xq9IWm1gIrVd2IwCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDb2xkMCAXDTI2MTEyODEwNDI1NVoYDzIwODEwODMxMTA0MjU1WjAOMQww
CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQSo0cB0kDk9KG+
M3eU70iRBlhm5fqq+jIP6DCjgitkopprWMN78a8og2c0scObeDalaU9F4U84FfID
SQsSVnDEMAoGCCqGSM49BAMCA0gAMEUCIQC42V3sBOjZq8PZGSEOvBO2BepXbNhq
rhcYmTQ1iM1FCQIgZfRVVyVPEbwRecSp+oT31QfbrnTZjST7ZyewAHgyAjY=
-----END CERTIFICATE-----
";
const OLD_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgO6EGNrwkrVgkNiyb
OixnWcxzwGE05P2phBAxAe9qjaehRANCAAQSo0cB0kDk9KG+M3eU70iRBlhm5fqq
+jIP6DCjgitkopprWMN78a8og2c0scObeDalaU9F4U84FfIDSQsSVnDE
-----END PRIVATE KEY-----
";
