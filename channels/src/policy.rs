//! Margins and limits that a node chooses; the defaults are for Ethereum.

/// A node's margins and limits. Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// A preimage is revealed on L1 this long before its lock expires: 64 blocks and 5 minutes.
    pub reveal_margin: u64,
    /// The nearest expiry that is forwarded or paid to us.
    pub min_expiry_ahead: u64,
    /// The farthest expiry that is accepted, before the tolerance for clocks.
    pub max_expiry_ahead: u64,
    /// How far clocks of peers may differ.
    pub clock_tolerance: u64,
    /// How far the version of a peer's half may be ahead of the clock: the jump after a recovery ([`crate::machine::clock::JUMP_SECS`]),
    /// and twice the age that an L1 head may have, once for each side's view of it.
    pub version_slack: u64,
    /// An L1 head older than this stops locks and payments.
    pub max_head_age: u64,
    /// The shortest dispute window of a channel that is used.
    pub min_window: u32,
    /// Life of a cooperative payout that we propose.
    pub coop_life: u64,
    /// The longest life of a cooperative payout that we sign.
    pub max_coop_life: u64,
    /// Fee of a forward, units.
    pub fee_base: u128,
    /// Fee of a forward, millionths of what goes out.
    pub fee_ppm: u128,
    /// The smallest lock that is forwarded or added: a reveal must be worth its gas.
    pub min_lock: u128,
    /// Most locks that a peer may have with us through forwards, at most 200.
    pub max_locks: usize,
    /// The most that the locks of one peer that we forward may hold together, units of the token.
    pub max_peer_value: u128,
    /// Below this a forwarder pays its own lock at once on a preimage: credit against the L1's liveness.
    pub eager_limit: u128,
    /// Above this nothing is built on a half of a channel before a tower has confirmed that it holds it, units of the token;
    /// none where no tower is asked.
    pub tower_limit: Option<u128>,
    /// Whether payments are taken for which there is no invoice.
    pub keysend: bool,
    /// A signed echo is asked for when this many versions are without one.
    pub ack_every: u64,
    /// No new version is signed while this many are without a signed echo.
    pub max_unechoed: u64,
    /// An unanswered message is sent again after this.
    pub resend_after: u64,
    /// Parts of a payment wait this long for the others.
    pub part_wait: u64,
    /// A peer is blamed for a lock unmoved this long after its reveal is final.
    pub blame_after: u64,
    /// A transaction that has not shown on L1 is broadcast again after this.
    pub rebroadcast_after: u64,
    /// A peer must supersede an invalid half within this.
    pub supersede_within: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reveal_margin: 64 * 12 + 300,
            min_expiry_ahead: 40 * 60,
            max_expiry_ahead: 4 * 3600,
            clock_tolerance: 300,
            version_slack: 20 * 60,
            max_head_age: 300,
            min_window: 12 * 3600,
            coop_life: 600,
            max_coop_life: 3600,
            fee_base: 0,
            fee_ppm: 1000,
            min_lock: 1,
            max_locks: 200,
            max_peer_value: u128::MAX,
            eager_limit: 0,
            tower_limit: None,
            keysend: true,
            ack_every: 32,
            max_unechoed: 256,
            resend_after: 10,
            part_wait: 60,
            blame_after: 600,
            rebroadcast_after: 60,
            supersede_within: 60,
        }
    }
}

impl Policy {
    /// How long a payout that was signed and forgotten may execute, seconds: the quiet after a recovery.
    pub fn quiet(&self) -> u64 {
        self.max_coop_life + self.clock_tolerance
    }

    /// Whether an amount waits for a tower's receipt.
    pub fn is_guarded(&self, amount: u128) -> bool {
        self.tower_limit.is_some_and(|limit| amount > limit)
    }

    /// What a forward of `amount` costs, rounded up.
    pub fn fee(&self, amount: u128) -> u128 {
        // Below 2^100 times a million: fits.
        self.fee_base + (amount * self.fee_ppm).div_ceil(1_000_000)
    }
}
