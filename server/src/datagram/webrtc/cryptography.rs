//! The cryptography that DTLS uses, done by `ring`, which TLS on the stream uses as well.
//!
//! One suite of each kind that all browsers know is enough: P-256 for signatures, X25519 or P-256 for
//! keys, and AES-128-GCM or ChaCha20-Poly1305 for packets.

use std::fmt;

use dimpl::crypto::{
    Aad, ActiveKeyExchange, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite,
    HashAlgorithm, HashContext, HashProvider, HmacProvider, KeyProvider, NamedGroup, Nonce,
    SecureRandom, SignatureAlgorithm, SignatureVerifier, SigningKey, SupportedDtls12CipherSuite,
    SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::aead::{self, LessSafeKey, UnboundKey, quic::HeaderProtectionKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use ring::{agreement, digest, hmac};
use webpki::EndEntityCert;
use webpki::ring::ECDSA_P256_SHA256;

/// Returns the cryptography for DTLS.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: &[&Group::X25519, &Group::P256],
        signature_verification: &Ring,
        key_provider: &Ring,
        secure_random: &Ring,
        hash_provider: &Ring,
        hmac_provider: &Ring,
        cipher_suites: &[&Suite::Aes128Gcm, &Suite::ChaCha20Poly1305],
        dtls13_cipher_suites: &[&Suite::ChaCha20Poly1305],
    }
}

#[derive(Debug)]
struct Ring;

#[derive(Debug, Clone, Copy)]
enum Suite {
    Aes128Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn cipher(self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let key = UnboundKey::new(self.algorithm(), key)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(PacketKey(LessSafeKey::new(key))))
    }
}

impl SupportedDtls12CipherSuite for Suite {
    fn suite(&self) -> Dtls12CipherSuite {
        match self {
            Self::Aes128Gcm => Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
            Self::ChaCha20Poly1305 => Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
        }
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    /// Lengths of the keys for authentication and encryption and of the fixed part of a nonce.
    fn key_lengths(&self) -> (usize, usize, usize) {
        match self {
            Self::Aes128Gcm => (0, 16, 4),
            Self::ChaCha20Poly1305 => (0, 32, 12),
        }
    }

    fn explicit_nonce_len(&self) -> usize {
        match self {
            Self::Aes128Gcm => 8,
            Self::ChaCha20Poly1305 => 0,
        }
    }

    fn tag_len(&self) -> usize {
        self.algorithm().tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        self.cipher(key)
    }
}

impl SupportedDtls13CipherSuite for Suite {
    fn suite(&self) -> Dtls13CipherSuite {
        match self {
            Self::Aes128Gcm => Dtls13CipherSuite::AES_128_GCM_SHA256,
            Self::ChaCha20Poly1305 => Dtls13CipherSuite::CHACHA20_POLY1305_SHA256,
        }
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_len(&self) -> usize {
        self.algorithm().key_len()
    }

    fn iv_len(&self) -> usize {
        aead::NONCE_LEN
    }

    fn tag_len(&self) -> usize {
        self.algorithm().tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        self.cipher(key)
    }

    /// Masks a packet's number; the method is that of QUIC, of which DTLS needs two bytes.
    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut mask = [0; 16];
        let five = HeaderProtectionKey::new(&aead::quic::CHACHA20, key)
            .and_then(|key| key.new_mask(sample));
        if let Ok(five) = five {
            mask[..five.len()].copy_from_slice(&five);
        }
        mask
    }
}

/// A key for packets in one direction.
struct PacketKey(LessSafeKey);

impl fmt::Debug for PacketKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PacketKey")
    }
}

impl Cipher for PacketKey {
    fn encrypt(
        &mut self,
        packet: &mut Buf,
        associated: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&associated[..]), packet)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Encrypt))
    }

    fn decrypt(
        &mut self,
        packet: &mut TmpBuf,
        associated: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(&associated[..]), packet.as_mut())
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Decrypt))?
            .len();
        packet.truncate(length);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Group {
    X25519,
    P256,
}

impl Group {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &agreement::X25519,
            Self::P256 => &agreement::ECDH_P256,
        }
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        match self {
            Self::X25519 => NamedGroup::X25519,
            Self::P256 => NamedGroup::Secp256r1,
        }
    }

    fn start_exchange(&self, mut public: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let private =
            agreement::EphemeralPrivateKey::generate(self.algorithm(), &SystemRandom::new())
                .map_err(|_| CryptoError::OperationFailed(CryptoOperation::GenerateEphemeralKey))?;
        let computed = private
            .compute_public_key()
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::ComputePublicKey))?;
        public.clear();
        public.extend_from_slice(computed.as_ref());
        Ok(Box::new(Exchange {
            group: *self,
            private,
            public,
        }))
    }
}

/// Our half of an exchange of keys.
#[derive(Debug)]
struct Exchange {
    group: Group,
    private: agreement::EphemeralPrivateKey,
    public: Buf,
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8], secret: &mut Buf) -> Result<(), CryptoError> {
        let peer = agreement::UnparsedPublicKey::new(self.group.algorithm(), peer);
        agreement::agree_ephemeral(self.private, &peer, |agreed| {
            secret.clear();
            secret.extend_from_slice(agreed);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(self.group.name()))
    }

    fn group(&self) -> NamedGroup {
        self.group.name()
    }
}

impl SignatureVerifier for Ring {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        _hash: HashAlgorithm,
        _algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        EndEntityCert::try_from(&certificate.into())
            .map_err(|_| CryptoError::CertificateParseFailed)?
            .verify_signature(ECDSA_P256_SHA256, data, signature)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))
    }
}

impl KeyProvider for Ring {
    fn load_private_key(&self, pkcs8: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
                .map_err(|_| CryptoError::InvalidPrivateKey)?;
        Ok(Box::new(OwnKey(pair)))
    }
}

/// The key of our certificate.
#[derive(Debug)]
struct OwnKey(EcdsaKeyPair);

impl SigningKey for OwnKey {
    fn sign(
        &mut self,
        data: &[u8],
        _hash: HashAlgorithm,
        signature: &mut Buf,
    ) -> Result<(), CryptoError> {
        let signed = self
            .0
            .sign(&SystemRandom::new(), data)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        signature.clear();
        signature.extend_from_slice(signed.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

impl SecureRandom for Ring {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new()
            .fill(bytes)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::FillRandom))
    }
}

impl HashProvider for Ring {
    fn create_hash(&self, _algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Sha256(digest::Context::new(&digest::SHA256)))
    }
}

struct Sha256(digest::Context);

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sha256")
    }
}

impl HashContext for Sha256 {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, hash: &mut Buf) {
        hash.clear();
        hash.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

impl HmacProvider for Ring {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        tag: &mut [u8],
    ) -> Result<usize, CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::UnsupportedHmacHash(hash));
        }
        let computed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let length = computed.as_ref().len();
        tag[..length].copy_from_slice(computed.as_ref());
        Ok(length)
    }
}
