//! Digits add up to their scalar, for every width, and small scalars are passed over only where they are zero.

use super::*;
use ark_ff::{Field, One, UniformRand, Zero};
use rand::{SeedableRng, rngs::StdRng};

fn scalars() -> Vec<Fr> {
    let mut rng = StdRng::seed_from_u64(1);
    let two = Fr::from(2u64);
    let mut scalars = vec![Fr::zero(), Fr::one(), -Fr::one(), -two, two];
    for bit in [7, 31, 62, 63, 64, 65, 127, 128, 191, 192, 252, 253] {
        let power = two.pow([bit]);
        scalars.extend([power - Fr::one(), power, power + Fr::one(), -power]);
    }
    scalars.extend((0..40).map(|_| Fr::rand(&mut rng)));
    scalars
}

#[test]
fn digits_add_up_to_their_scalar() {
    let scalars = scalars();
    for bits in 3..=MAX_BITS {
        let windows = Windows::of_bits(bits);
        let digits = Digits::of(windows, scalars.iter().map(|s| s.into_bigint().0));
        let mut sums = vec![Fr::zero(); scalars.len()];
        let mut order = Order::default();
        for window in 0..windows.count {
            digits.sort(window, &mut order);
            let weight = Fr::from(2u64).pow([(window * bits) as u64]);
            let mut entries = order.entries.iter();
            assert_eq!(order.counts.len(), windows.buckets());
            for (bucket, count) in order.counts.iter().enumerate() {
                let value = Fr::from(bucket as u64 + 1) * weight;
                for entry in entries.by_ref().take(*count as usize) {
                    let negative = entry & NEGATIVE != 0;
                    sums[(entry & !NEGATIVE) as usize] += if negative { -value } else { value };
                }
            }
            assert!(entries.next().is_none());
        }
        assert_eq!(sums, scalars, "{bits} bits");
    }
}

#[test]
fn zeros_and_small_scalars_are_left_out_of_high_windows() {
    let windows = Windows::of_bits(13);
    let mut order = Order::default();
    let digits = Digits::of(
        windows,
        [[0; 4], [1, 0, 0, 0], [u64::MAX, 0, 0, 0]].into_iter(),
    );
    digits.sort(0, &mut order);
    assert_eq!(order.entries.len(), 2);
    // Window 5 begins at bit 65, to which 2^64 − 1 rounds up; window 6 is out of reach.
    digits.sort(5, &mut order);
    assert_eq!(order.entries, [2]);
    digits.sort(6, &mut order);
    assert!(order.entries.is_empty());
}

#[test]
fn a_filter_keeps_buckets_apart() {
    let digits = Digits::of(Windows::of_bits(3), (0..20).map(|i| [i, 0, 0, 0]));
    let (mut order, mut odd) = (Order::default(), Order::default());
    digits.sort(0, &mut order);
    order.filter_into(|position| position % 2 == 1, &mut odd);
    assert!(odd.entries.iter().all(|entry| (entry & !NEGATIVE) % 2 == 1));
    assert_eq!(odd.entries.len(), 10);
    assert_eq!(odd.counts.iter().sum::<u32>(), 10);
    assert_eq!(odd.counts.len(), order.counts.len());
}

#[test]
fn more_scalars_get_wider_windows() {
    let widths: Vec<usize> = [0, 1, 100, 1 << 12, 1 << 16, 1 << 20, 1 << 26]
        .map(|scalars| Windows::for_scalars(scalars).bits)
        .to_vec();
    assert!(widths.is_sorted(), "{widths:?}");
    assert!(*widths.last().unwrap() >= 16);
}
