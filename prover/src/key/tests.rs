//! Ids say who knows the secrets.

use super::*;

#[test]
fn ids_read_back_and_name_their_origin() {
    for origin in [KeyOrigin::InsecureDev, KeyOrigin::Ceremony] {
        let id = KeyId {
            origin,
            hash: [0xab; 32],
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<KeyId>(&json).unwrap(), id);
    }
    let id = KeyId {
        origin: KeyOrigin::InsecureDev,
        hash: [0; 32],
    };
    assert_eq!(id.to_string(), format!("INSECURE-DEV-{}", "0".repeat(64)));
    for text in [
        "",
        "INSECURE-DEV",
        "INSECURE-DEV-00",
        "secure-00",
        &"0".repeat(64),
    ] {
        assert!(text.parse::<KeyId>().is_err(), "{text}");
    }
}

#[test]
fn an_id_depends_on_every_word_of_the_verifying_key() {
    let key = CircuitKey::generate(Circuit::Chain(2), &Seed::development()).unwrap();
    let vk = key.verifying_key();
    let mut changed = vec![
        VerifyingKey {
            alpha_g1: -vk.alpha_g1,
            ..vk.clone()
        },
        VerifyingKey {
            beta_g2: -vk.beta_g2,
            ..vk.clone()
        },
        VerifyingKey {
            gamma_g2: -vk.gamma_g2,
            ..vk.clone()
        },
        VerifyingKey {
            delta_g2: -vk.delta_g2,
            ..vk.clone()
        },
    ];
    for position in 0..vk.gamma_abc_g1.len() {
        let mut key = vk.clone();
        key.gamma_abc_g1[position] = -key.gamma_abc_g1[position];
        changed.push(key);
    }
    for other in changed {
        assert_ne!(KeyId::of(&other, KeyOrigin::InsecureDev), key.id);
    }
}
