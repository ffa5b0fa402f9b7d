//! Two machines that live by random bytes: see `millrace_sim::pair`.

use millrace_sim::pair::Pair;
use millrace_sim::random::Random;

const SEEDS: u64 = 60;
const STEPS: usize = 400;

#[test]
fn altered_frames_break_no_machine() {
    let mut paid = 0;
    for seed in 0..SEEDS {
        let mut pair = Pair::new(Random::new(seed));
        for _ in 0..STEPS {
            pair.live();
        }
        paid += pair.paid();
    }
    assert!(paid > 1000, "only {paid} was paid: nothing was tested");
}

/// What a fuzzer does, without its guidance.
#[test]
fn bytes_that_a_fuzzer_chose_break_no_machine() {
    let mut random = Random::new(0);
    for _ in 0..SEEDS {
        let length = random.below(4000);
        let bytes: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
        Pair::live_by(&bytes, STEPS);
    }
    Pair::live_by(&[], STEPS);
}
