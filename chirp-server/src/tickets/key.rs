//! The key of a ticket, and the signature that proves its possession (part 2.5).

use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};

/// Bytes of a challenge.
pub const CHALLENGE: usize = 64;

/// Bits of the smallest modulus whose signature can hold a challenge and its padding.
const BITS_MIN: usize = (CHALLENGE + 11) * 8;

/// Bits of the largest modulus. What a verification costs grows with their square.
const BITS_MAX: usize = 16 * 1024;

/// Bits of the modulus above which a verification takes so long that others should not wait for it.
const BITS_QUICK: usize = 2048;

/// A public key that a ticket can be logged in with.
#[derive(Clone, Debug)]
pub struct Key(RsaPublicKey);

impl Key {
    /// Reads a key from exactly the text that `openssl rsa -pubout` writes of it, with nothing before,
    /// in or after it (W1). Any other text is no key.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (label, der) = rsa::pkcs8::Document::from_pem(pem).ok()?;
        if label != "PUBLIC KEY" {
            return None;
        }
        let info: rsa::pkcs8::SubjectPublicKeyInfoRef<'_> = der.decode_msg().ok()?;
        info.algorithm
            .assert_algorithm_oid(rsa::pkcs1::ALGORITHM_OID)
            .ok()?;
        let key = rsa::pkcs1::RsaPublicKey::try_from(info.subject_public_key.as_bytes()?).ok()?;
        let modulus = BigUint::from_bytes_be(key.modulus.as_bytes());
        let exponent = BigUint::from_bytes_be(key.public_exponent.as_bytes());
        // The exponent is bounded there to 33 bits.
        let key = RsaPublicKey::new_with_max_size(modulus, exponent, BITS_MAX).ok()?;
        let same = key.to_public_key_pem(LineEnding::LF).ok()? == pem;
        (same && key.n().bits() >= BITS_MIN).then_some(Self(key))
    }

    /// Reports whether a verification takes hundreds of microseconds or less.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.0.n().bits() <= BITS_QUICK
    }

    /// Reports whether this is the challenge under PKCS#1 v1.5 padding of type 1, without the prefix
    /// of any digest, signed by the key's other half.
    #[must_use]
    pub fn verify(&self, challenge: &[u8; CHALLENGE], signature: &[u8]) -> bool {
        let scheme = Pkcs1v15Sign::new_unprefixed();
        self.0.verify(scheme, challenge, signature).is_ok()
    }
}
