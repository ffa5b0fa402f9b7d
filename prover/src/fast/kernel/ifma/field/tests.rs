//! Each operation agrees with arkworks on residues at the edges of its bounds, and keeps its own bound.

use super::*;
use ark_ff::{BigInteger, One, UniformRand, Zero};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// 2^4: the radix that arkworks does not have.
fn sixteen<M: Modulus>() -> M {
    M::from(16u64)
}

/// Raw integers of a bound's worth of multiples of p: edges and random ones, not reduced.
fn samples<M: Modulus>(rng: &mut StdRng, bound: u64) -> Vec<[u64; 5]> {
    let mut samples = vec![];
    for factor in 0..=bound {
        let multiple = times(M::CONSTANTS.words, factor);
        samples.push(multiple);
        if factor < bound {
            samples.push(add_small(multiple, 1));
            samples.push(add_words(multiple, M::rand(rng).words()));
            let below = add_words(multiple, (-M::one()).into_bigint().0);
            samples.push(below);
        }
    }
    samples
}

fn add_words(a: [u64; 5], b: [u64; 4]) -> [u64; 5] {
    let mut sum = a;
    let mut carry = 0u128;
    for i in 0..5 {
        carry += a[i] as u128 + b.get(i).copied().unwrap_or(0) as u128;
        sum[i] = carry as u64;
        carry >>= 64;
    }
    sum
}

fn add_small(a: [u64; 5], b: u64) -> [u64; 5] {
    add_words(a, [b, 0, 0, 0])
}

/// The residue of a raw integer, read as arkworks' Montgomery form.
fn value<M: Modulus>(words: [u64; 5]) -> M {
    let integer = words.iter().rev().fold(M::zero(), |sum, word| {
        sum * M::from(1u128 << 64) + M::from(*word)
    });
    // The integer is the value times 2^256.
    integer * M::from(2u64).pow([256u64]).inverse().unwrap()
}

fn put(k: Ifma, lanes: &[[u64; 5]; 8]) -> Limbs {
    let limbs = lanes.map(split);
    std::array::from_fn(|i| k.load(&limbs.map(|lane| lane[i])))
}

fn get(k: Ifma, limbs: &Limbs) -> [[u64; 5]; 8] {
    let mut columns = [[0; 8]; 5];
    for (column, limb) in columns.iter_mut().zip(limbs) {
        k.store(*limb, column);
    }
    assert!(
        columns.iter().flatten().all(|limb| *limb <= MASK),
        "a limb is not normalised"
    );
    std::array::from_fn(|lane| {
        let [a, b, c, d, e] = columns.map(|column| column[lane]);
        [
            a | b << 52,
            b >> 12 | c << 40,
            c >> 24 | d << 28,
            d >> 36 | e << 16,
            e >> 48,
        ]
    })
}

/// Whether an integer is at most `tenths`/10 times p.
fn at_most<M: Modulus>(words: [u64; 5], tenths: u64) -> bool {
    let scale = |words: [u64; 5], factor: u128| {
        let mut product = [0u64; 6];
        let mut carry = 0u128;
        for i in 0..5 {
            carry += words[i] as u128 * factor;
            product[i] = carry as u64;
            carry >>= 64;
        }
        product[5] = carry as u64;
        product.reverse();
        product
    };
    let [a, b, c, d] = M::CONSTANTS.words;
    scale(words, 10) <= scale([a, b, c, d, 0], tenths as u128)
}

fn check<M: Modulus>() {
    let Some(k) = Ifma::detect() else { return };
    let mut rng = StdRng::seed_from_u64(7);
    let (wide, tight) = (samples::<M>(&mut rng, 8), samples::<M>(&mut rng, 3));
    let loose = samples::<M>(&mut rng, 10);
    for _ in 0..400 {
        let mut pick = |from: &[[u64; 5]]| [(); 8].map(|()| from[rng.gen_range(0..from.len())]);
        let (a, b, c, d) = (pick(&wide), pick(&tight), pick(&wide), pick(&tight));
        let (x, y, e) = (pick(&tight), pick(&tight), pick(&loose));
        let [va, vb, vc, vd, ve] = [&a, &b, &c, &d, &e].map(|lanes| put(k, lanes));
        let [vx, vy] = [&x, &y].map(|lanes| put(k, lanes));
        let field = |lanes: &[[u64; 5]; 8]| lanes.map(value::<M>);
        let [fa, fb, fc, fd, fe] = [&a, &b, &c, &d, &e].map(field);
        let [fx, fy] = [&x, &y].map(field);
        let agree = |name: &str, got: &Limbs, tenths: u64, want: &dyn Fn(usize) -> M| {
            for (lane, words) in get(k, got).into_iter().enumerate() {
                assert_eq!(value::<M>(words), want(lane), "{name}, lane {lane}");
                assert!(at_most::<M>(words, tenths), "{name}, bound, lane {lane}");
            }
        };
        let sixteenth = sixteen::<M>().inverse().unwrap();
        let product = k.mul::<M>(&va, &vb);
        agree("mul", &product, 13, &|i| fa[i] * fb[i] * sixteenth);
        let sum = k.mul_add::<M>(&va, &vb, &vc, &vd);
        agree("mul_add", &sum, 17, &|i| {
            (fa[i] * fb[i] + fc[i] * fd[i]) * sixteenth
        });
        agree("square", &k.square::<M>(&vb), 12, &|i| {
            fb[i].square() * sixteenth
        });
        agree("sub", &k.sub::<M>(&vx, &vy), 70, &|i| fx[i] - fy[i]);
        agree("add", &k.add(&vx, &vy), 60, &|i| fx[i] + fy[i]);
        agree("opposite", &k.opposite::<M>(&vx), 40, &|i| -fx[i]);
        agree("tighten", &k.tighten::<M>(&ve), 23, &|i| fe[i]);
        agree("third x", &k.third_x::<M>(&vb, &vx, &vy), 23, &|i| {
            fb[i] - fx[i] - fy[i]
        });
        agree("third y", &k.third_y::<M>(&product, &vy), 23, &|i| {
            fa[i] * fb[i] * sixteenth * M::from(4u64) - fy[i]
        });
        agree("negate", &k.negate_where::<M>(0b1010_0101, &vx), 30, &|i| {
            if 0b1010_0101 >> i & 1 == 1 {
                -fx[i]
            } else {
                fx[i]
            }
        });
        let zeros = k.zero_lanes::<M>(&va);
        assert!((0..8).all(|i| (zeros >> i & 1 == 1) == fa[i].is_zero()));
        assert_eq!(k.to_fields::<M>(&vx), fx);
        let points = k.unpack(k.pack(&vx, &vy));
        assert_eq!((get(k, &points[0]), get(k, &points[1])), (x, y));
    }
}

#[test]
fn residues_modulo_p_agree_with_arkworks() {
    check::<Fq>();
}

#[test]
fn residues_modulo_r_agree_with_arkworks() {
    check::<Fr>();
}

#[test]
fn fields_go_in_and_out() {
    let Some(k) = Ifma::detect() else { return };
    let mut rng = StdRng::seed_from_u64(8);
    let mut values = [(); 8].map(|()| Fr::rand(&mut rng));
    values[2] = Fr::zero();
    values[3] = -Fr::one();
    assert_eq!(k.to_fields::<Fr>(&k.of_fields(values.each_ref())), values);
    assert_eq!(k.to_fields::<Fr>(&k.constant(values[3])), [values[3]; 8]);
}

#[test]
fn words_are_negated_below_three_p() {
    let mut rng = StdRng::seed_from_u64(9);
    for words in samples::<Fq>(&mut rng, 3) {
        let mut negated = words;
        negate_words::<Fq>(&mut negated[..4]);
        assert_eq!(value::<Fq>(negated), -value::<Fq>(words));
        assert!(at_most::<Fq>(negated, 30));
    }
    assert!(Fq::MODULUS.num_bits() == 254);
}
