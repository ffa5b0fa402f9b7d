//! Residues agree with arkworks' fields, over all of their range.

use super::*;
use ark_bn254::{Fq, Fr, FrConfig};
use ark_ff::PrimeField;
use proptest::prelude::*;

/// Words below twice the modulus: anywhere, or at an edge.
fn words<C: MontConfig<4>>() -> impl Strategy<Value = Words> {
    let near = |edge: Words, down: bool| {
        (0u64..3).prop_map(move |step| {
            let step = [step, 0, 0, 0];
            if down {
                difference(&edge, &[step[0] + 1, 0, 0, 0]).0
            } else {
                sum(&edge, &step)
            }
        })
    };
    prop_oneof![
        4 => any::<Words>().prop_map(|mut words| {
            words[3] >>= 1;
            reduced(&words, &C::TWO)
        }),
        1 => near([0; 4], false),
        1 => near(C::ONE, false),
        1 => near(C::ONE, true),
        1 => near(C::TWO, true),
        // Words of ones carry furthest.
        1 => Just(reduced(&[u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 2], &C::TWO)),
    ]
}

/// arkworks' value of words below twice the modulus.
fn expected<C: MontConfig<4>>(words: &Words) -> Prime<C> {
    Prime::<C>::new_unchecked(BigInt(reduced(words, &C::ONE)))
}

fn below_twice<C: MontConfig<4>>(residue: &Residue<C>) -> bool {
    difference(&residue.0, &C::TWO).1
}

fn check<C: MontConfig<4>>(a: Words, b: Words) {
    let (x, y) = (expected::<C>(&a), expected::<C>(&b));
    let [a, b] = [a, b].map(|words| Residue::<C>::of_words(&words));
    for (name, result, wanted) in [
        ("sum", a.plus(&b), x + y),
        ("difference", a.minus(&b), x - y),
        ("product", a.product(&b), x * y),
        ("opposite", a.opposite_if(true), -x),
        ("itself", a.opposite_if(false), x),
    ] {
        assert!(below_twice(&result), "{name} of {:x?} and {:x?}", a.0, b.0);
        assert_eq!(
            result.field(),
            wanted,
            "{name} of {:x?} and {:x?}",
            a.0,
            b.0
        );
        assert_eq!(result.is_zero(), wanted == Prime::<C>::default());
    }
    assert_eq!(a.integer(), x.into_bigint().0);
    assert_eq!(a.inverse().map(|inverse| inverse.field()), x.inverse());
    assert_eq!(Residue::of_field(&x).field(), x);
}

fn check_pairs(a: [Words; 2], b: [Words; 2]) {
    let pair = |words: [Words; 2]| {
        let [c0, c1] = words.map(|words| Residue::of_words(&words));
        Pair { c0, c1 }
    };
    let (a, b) = (pair(a), pair(b));
    let (x, y) = (a.field(), b.field());
    for (name, result, wanted) in [
        ("sum", a.plus(&b), x + y),
        ("difference", a.minus(&b), x - y),
        ("product", a.product(&b), x * y),
        ("square", a.square(), x * x),
        ("opposite", a.opposite_if(true), -x),
    ] {
        assert!(below_twice(&result.c0) && below_twice(&result.c1), "{name}");
        assert_eq!(result.field(), wanted, "{name}");
        assert_eq!(result.is_zero(), wanted == Fq2::default());
    }
    assert_eq!(a.inverse().map(|inverse| inverse.field()), x.inverse());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn base_residues_are_arkworks_elements(a in words::<FqConfig>(), b in words::<FqConfig>()) {
        check::<FqConfig>(a, b);
    }

    #[test]
    fn scalar_residues_are_arkworks_elements(a in words::<FrConfig>(), b in words::<FrConfig>()) {
        check::<FrConfig>(a, b);
    }

    #[test]
    fn pairs_are_arkworks_elements(
        a in [words::<FqConfig>(), words::<FqConfig>()],
        b in [words::<FqConfig>(), words::<FqConfig>()],
    ) {
        check_pairs(a, b);
    }
}

#[test]
fn the_greatest_values_keep_their_bounds() {
    let greatest = |two: Words| difference(&two, &[1, 0, 0, 0]).0;
    let (base, scalar) = (greatest(FqConfig::TWO), greatest(FrConfig::TWO));
    check::<FqConfig>(base, base);
    check::<FrConfig>(scalar, scalar);
    check_pairs([base; 2], [base; 2]);
    check_pairs([base, [0; 4]], [[0; 4], base]);
    check_pairs([[0; 4], base], [[0; 4], base]);
    assert_eq!(Residue::<FqConfig>::ONE.field(), Fq::from(1u64));
    assert_eq!(Residue::<FrConfig>::ONE.field(), Fr::from(1u64));
}
