//! The same calls against the real contract, in revm, and against the plain Rust reference: equal results, equal storage.
//!
//! Random sequences, valid and invalid: edges of amounts, versions, counters, times and list lengths; missing, swapped and
//! wrong signatures; closed channels; receivers that refuse money. The simulator's runs compare the same way.

use millrace_channels::digest::{self, Coop};
use millrace_channels::machine::dispute::ChainPhase;
use millrace_channels::machine::effect::Transaction;
use millrace_channels::signing::Keys;
use millrace_channels::state::{Half, Halves, Lock, Params, list_root};
use millrace_channels::types::{AMOUNT_LIMIT, Address, Amount, Hash32, Preimage, Side, Signature};
use millrace_sim::contract::{Contract, Merge};
use millrace_sim::evm::{Evm, separator};
use millrace_sim::keys::{SimKeys, payout, signed_by, signer};
use millrace_sim::l1::{Call, Tx, apply, execute_beside};
use millrace_sim::random::Random;
use proptest::prelude::*;

const START: u64 = 1_800_000_000;
/// Who may call: the signers, a stranger, the tower.
const CALLERS: [u8; 4] = [0, 1, 199, 200];

struct Run {
    random: Random,
    now: u64,
    reference: Contract,
    evm: Evm,
    channels: Vec<Params>,
    succeeded: u32,
}

impl Run {
    fn new(seed: u64, merge: Merge) -> Self {
        let mut run = Self {
            random: Random::new(seed),
            now: START,
            reference: Contract::new(separator(), signed_by, merge),
            evm: Evm::default(),
            channels: Vec::new(),
            succeeded: 0,
        };
        let refusing = payout(3);
        run.reference.refusing.insert(refusing);
        run.evm.refuse_money(&refusing);
        let good = Params {
            signer_a: signer(0),
            payout_a: payout(0),
            signer_b: signer(1),
            payout_b: payout(1),
            token: Address::ZERO,
            window_secs: 3600,
            salt: 0,
        };
        let odd = [
            Params {
                salt: u64::MAX,
                payout_b: refusing,
                window_secs: 30 * 24 * 3600,
                ..good
            },
            Params {
                window_secs: 3599,
                ..good
            },
            Params {
                window_secs: 30 * 24 * 3600 + 1,
                ..good
            },
            Params {
                signer_b: signer(0),
                ..good
            },
            Params {
                signer_a: Address::ZERO,
                ..good
            },
            Params {
                payout_a: Address::ZERO,
                ..good
            },
        ];
        run.channels.extend([good, good]);
        run.channels.extend(odd);
        run
    }

    fn params(&mut self) -> Params {
        let number = if self.random.one_in(30) {
            self.random.below(self.channels.len() as u64) as usize
        } else {
            self.random.below(3) as usize
        };
        self.channels[number]
    }

    fn number(&mut self, edges: &[u128], small: u64) -> u128 {
        if self.random.one_in(2) {
            *self.random.pick(edges)
        } else {
            u128::from(self.random.below(small))
        }
    }

    fn amount(&mut self) -> u128 {
        let limit = AMOUNT_LIMIT;
        self.number(
            &[0, 1, 2, limit - 1, limit, limit + 1, (1 << 112) - 1],
            1000,
        )
    }

    fn time(&mut self) -> u64 {
        let offset = *self.random.pick(&[0, 1, 2, 60, 3600, 86_400]);
        if self.random.one_in(2) {
            self.now + offset
        } else {
            self.now - offset
        }
    }

    fn signature(&mut self, node: u8, digest: &Hash32) -> Signature {
        match self.random.below(12) {
            0 => Signature([0; 65]),
            1 => SimKeys { node: 1 - node }.sign(digest),
            2 => SimKeys { node }.sign(&Hash32([1; 32])),
            _ => SimKeys { node }.sign(digest),
        }
    }

    fn list(&mut self, deadline: u64) -> Vec<Lock> {
        let count = *self.random.pick(&[0, 0, 0, 1, 1, 2, 3, 200, 201]);
        (0..count)
            .map(|_| {
                let amount = self.amount() % AMOUNT_LIMIT;
                let late = [self.now, deadline + 86_400, deadline + 86_401, u64::MAX];
                let expiry = if self.random.one_in(12) {
                    *self.random.pick(&late)
                } else {
                    self.time()
                };
                Lock {
                    hash: self.preimage().hash(),
                    amount: Amount::new(amount).unwrap(),
                    expiry,
                }
            })
            .collect()
    }

    fn preimage(&mut self) -> Preimage {
        Preimage([self.random.below(5) as u8; 32])
    }

    fn half(&mut self, list: &[Lock]) -> Half {
        let last = u128::from(u64::MAX);
        let version = self.number(&[0, 0, 1, last - 1, last], 9) as u64;
        let paid = self.number(&[0, 1, AMOUNT_LIMIT, (1 << 112) - 1], 1000);
        let honest = version == 0 && !self.random.one_in(8);
        Half {
            version,
            paid: if honest { 0 } else { paid },
            locks: list_root(if honest { &[] } else { list }),
        }
    }

    fn submit(&mut self, params: Params) -> Call {
        let id = digest::channel_id(&separator(), &params);
        let deadline = match self
            .reference
            .channels
            .get(&id)
            .map(|(_, chain)| &chain.phase)
        {
            Some(ChainPhase::Closing(dispute)) => dispute.deadline,
            _ => self.now + u64::from(params.window_secs),
        };
        let (list_a, list_b) = (self.list(deadline), self.list(deadline));
        let halves = Halves {
            a: self.half(&list_a),
            b: self.half(&list_b),
        };
        let digest = digest::snapshot(&separator(), &id, &halves);
        let signatures = (!self.random.one_in(10))
            .then(|| (self.signature(0, &digest), self.signature(1, &digest)));
        let shown_a = if self.random.one_in(12) {
            self.list(deadline)
        } else {
            list_a
        };
        Call::Node(Transaction::Submit {
            params,
            halves,
            list_a: shown_a,
            list_b,
            signatures,
        })
    }

    fn cooperate(&mut self, params: Params) -> Call {
        let id = digest::channel_id(&separator(), &params);
        let chain = self.reference.channels.get(&id).map(|(_, chain)| chain);
        let (pot, epoch) = chain.map_or((0, 0), |chain| (chain.pot().unsigned_abs(), chain.epoch));
        let whole = self.random.one_in(6);
        let pay_a = if whole {
            pot
        } else {
            self.amount() % (1 << 112)
        };
        let coop = Coop {
            epoch: if self.random.one_in(8) {
                epoch + 1
            } else {
                epoch
            },
            pay_a,
            pay_b: if whole {
                0
            } else {
                self.number(&[0, 0, 1, pot], 1000)
            },
            valid_until: self.time(),
        };
        let digest = digest::coop(&separator(), &id, &coop);
        Call::Node(Transaction::Cooperate {
            params,
            coop,
            signature_a: self.signature(0, &digest),
            signature_b: self.signature(1, &digest),
        })
    }

    fn settle(&mut self, params: Params) -> Call {
        let id = digest::channel_id(&separator(), &params);
        let (mut list_a, list_b) = match self.reference.channels.get(&id).map(|(_, c)| &c.phase) {
            Some(ChainPhase::Closing(dispute)) => (dispute.list_a.clone(), dispute.list_b.clone()),
            _ => (Vec::new(), Vec::new()),
        };
        if self.random.one_in(12) {
            list_a = self.list(self.now);
        }
        Call::Node(Transaction::Settle {
            params,
            list_a,
            list_b,
        })
    }

    fn close(&mut self, params: Params) -> Call {
        let id = digest::channel_id(&separator(), &params);
        let valid_until = self.time();
        let digest = digest::close(&separator(), &id, valid_until);
        let node = self.random.below(2) as u8;
        Call::Close {
            params,
            valid_until,
            signature: self.signature(node, &digest),
        }
    }

    /// Moves time, sometimes to exactly where something changes.
    fn pass_time(&mut self) {
        let edges: Vec<u64> = self
            .reference
            .channels
            .values()
            .filter_map(|(_, chain)| match &chain.phase {
                ChainPhase::Closing(dispute) => Some(dispute),
                _ => None,
            })
            .flat_map(|dispute| {
                let locks = dispute.list_a.iter().chain(&dispute.list_b);
                let expiries = locks.map(|lock| lock.expiry).take(3);
                [dispute.deadline - 1, dispute.deadline]
                    .into_iter()
                    .chain(expiries)
                    .collect::<Vec<u64>>()
            })
            .filter(|at| *at < self.now + 40 * 86_400)
            .collect();
        let to = if edges.is_empty() || self.random.one_in(2) {
            self.now + *self.random.pick(&[1, 30, 3600])
        } else {
            *self.random.pick(&edges) + self.random.below(2)
        };
        self.now = self.now.max(to);
    }

    fn call(&mut self) -> Call {
        let params = self.params();
        match self.random.below(20) {
            0..6 => Call::Deposit {
                params,
                side: if self.random.one_in(2) {
                    Side::A
                } else {
                    Side::B
                },
                amount: self.amount(),
            },
            6..8 => self.cooperate(params),
            8..13 => self.submit(params),
            13..16 => self.settle(params),
            16 => self.close(params),
            _ => Call::Node(Transaction::Reveal {
                preimages: vec![self.preimage(), self.preimage()],
            }),
        }
    }

    /// Makes calls until one differs.
    fn difference(&mut self, calls: u32) -> Option<String> {
        (0..calls).find_map(|_| {
            if self.random.one_in(3) {
                self.pass_time();
            }
            let tx = Tx {
                sender: signer(*self.random.pick(&CALLERS)),
                call: self.call(),
                ready: self.now,
            };
            let result = apply(&mut self.reference, &tx, self.now);
            self.succeeded += u32::from(result.is_ok());
            execute_beside(&mut self.evm, &self.reference, &tx, self.now, result).0
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn contract_and_reference_agree(seed: u64) {
        let mut run = Run::new(seed, Merge::PerHalf);
        prop_assert_eq!(run.difference(120), None);
    }
}

#[test]
fn the_calls_reach_every_phase() {
    let mut closed = 0;
    let mut succeeded = 0;
    for seed in 0..20 {
        let mut run = Run::new(seed, Merge::PerHalf);
        assert_eq!(run.difference(120), None, "seed {seed}");
        succeeded += run.succeeded;
        let ended = run.reference.channels.values();
        closed += ended.filter(|(_, chain)| chain.is_closed()).count();
    }
    assert!(succeeded > 20 * 20, "{succeeded} calls succeeded");
    assert!(closed > 10, "{closed} channels were closed");
}

#[test]
fn a_wrong_reference_is_found_out() {
    let found = (0..40).any(|seed| Run::new(seed, Merge::Whole).difference(120).is_some());
    assert!(found, "whole snapshots instead of halves look the same");
}
