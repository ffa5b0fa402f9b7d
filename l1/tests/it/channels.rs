//! The channels' contract through its typed client: from the first deposit to the last claim.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::Provider,
    signers::{SignerSync, local::PrivateKeySigner},
};
use millrace_l1::{
    bindings::{
        Channels,
        IChannels::{Halves, Params},
    },
    channels_client::{
        ChannelPhase, ChannelsClient, ChannelsError, ChannelsEvents, CloseConsent, ETH, HalfState,
        PayoutTerms, RefusalKind, Submission, decode_event, opened_by,
    },
    on_both_chains,
    sender::{Call, TransactionSender},
    testing::TestL1,
};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: u64 = 3600;

/// Alice is account 1, Bob 2, and a stranger 3, who pays for what anybody can do.
struct World {
    channels: ChannelsClient,
    params: Params,
    id: B256,
    alice: TransactionSender,
    bob: TransactionSender,
    stranger: TransactionSender,
}

fn sender(l1: &TestL1, index: u32) -> TransactionSender {
    TransactionSender::in_memory(l1.provider().clone(), l1.signer(index))
}

async fn world(l1: &TestL1, token: Address) -> World {
    let stranger = sender(l1, 3);
    let channels = ChannelsClient::deploy(&stranger, "deploy")
        .await
        .unwrap()
        .value;
    let channels = ChannelsClient::connect(l1.provider(), channels.address())
        .await
        .unwrap();
    let params = Params {
        signerA: l1.signer(1).address(),
        payoutA: Address::repeat_byte(0xa1),
        signerB: l1.signer(2).address(),
        payoutB: Address::repeat_byte(0xb1),
        token,
        window: HOUR as u32,
        salt: 7,
    };
    let id = channels.channel_id(&params).await.unwrap();
    let (alice, bob) = (sender(l1, 1), sender(l1, 2));
    World {
        channels,
        params,
        id,
        alice,
        bob,
        stranger,
    }
}

impl World {
    async fn fund(&self, a: u64, b: u64) {
        let (channels, params) = (&self.channels, &self.params);
        channels
            .deposit(&self.alice, "fund a", params, false, U256::from(a))
            .await
            .unwrap();
        channels
            .deposit(&self.bob, "fund b", params, true, U256::from(b))
            .await
            .unwrap();
    }

    async fn phase(&self) -> ChannelPhase {
        self.channels.channel(self.id).await.unwrap().phase
    }

    /// Both signatures of a snapshot; the digest is the contract's own.
    async fn signed(&self, l1: &TestL1, mut submission: Submission) -> Submission {
        let halves = Halves {
            a: submission.a.try_into().unwrap(),
            b: submission.b.try_into().unwrap(),
        };
        let digest = self.channels.contract().snapshotDigest(self.id, halves);
        let digest = digest.call().await.unwrap();
        submission.signature_a = sign(&l1.signer(1), digest);
        submission.signature_b = sign(&l1.signer(2), digest);
        submission
    }

    async fn payout(&self, l1: &TestL1, pay_a: u128, pay_b: u128) -> PayoutTerms {
        let epoch = self.channels.channel(self.id).await.unwrap().epoch;
        let (a, b) = (pay_a.try_into().unwrap(), pay_b.try_into().unwrap());
        let digest = self
            .channels
            .contract()
            .coopDigest(self.id, epoch, a, b, u64::MAX);
        let digest = digest.call().await.unwrap();
        PayoutTerms {
            pay_a,
            pay_b,
            valid_until: u64::MAX,
            signature_a: sign(&l1.signer(1), digest),
            signature_b: sign(&l1.signer(2), digest),
        }
    }
}

fn sign(key: &PrivateKeySigner, digest: B256) -> Bytes {
    key.sign_hash_sync(&digest)
        .unwrap()
        .as_bytes()
        .to_vec()
        .into()
}

fn half(version: u64, paid: u128, list: &[u8]) -> HalfState {
    let locks = if list.is_empty() {
        B256::ZERO
    } else {
        keccak256(list)
    };
    HalfState {
        version,
        paid,
        locks,
    }
}

/// A lock's 56 bytes.
fn lock(preimage: B256, amount: u128, expiry: u64) -> Bytes {
    let hash = Sha256::digest(preimage);
    [&hash[..], &amount.to_be_bytes(), &expiry.to_be_bytes()]
        .concat()
        .into()
}

fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

async fn balance(l1: &TestL1, account: Address) -> U256 {
    l1.provider().provider().get_balance(account).await.unwrap()
}

fn refused(error: ChannelsError) -> RefusalKind {
    error.refusal().unwrap_or_else(|| panic!("{error}")).kind
}

on_both_chains! {
    async fn a_force_close_is_answered_and_settled_by_a_stranger_from_logs_alone(l1: TestL1) {
        let w = world(&l1, ETH).await;
        assert_eq!(w.phase().await, ChannelPhase::None);
        w.fund(1_000, 500).await;
        let state = w.channels.channel(w.id).await.unwrap();
        assert_eq!((state.phase, state.net_a, state.net_b, state.pot()), (ChannelPhase::Open, 1_000, 500, 1_500));

        // Bob closes by an old snapshot: what Alice paid later is in it, what he paid is not.
        let preimage = B256::repeat_byte(9);
        let list = lock(preimage, 70, wall_clock() + HOUR / 2);
        let stale = Submission {
            a: half(5, 300, &list),
            b: half(1, 0, &[]),
            list_a: list.clone(),
            ..Submission::default()
        };
        let mut stale = w.signed(&l1, stale).await;
        stale.signature_b = Bytes::new();
        let submitted = w.channels.submit(&w.bob, "close", &w.params, &stale).await.unwrap().value;
        assert_eq!(submitted.channelId, w.id);
        assert_eq!(w.phase().await, ChannelPhase::Closing);
        let late = w.channels.deposit(&w.alice, "late", &w.params, false, U256::from(1)).await.unwrap_err();
        assert_eq!(refused(late), RefusalKind::Phase);

        // Anybody answers with the newer half B; the lists of both go along.
        let newer = Submission { a: half(4, 290, &[]), b: half(8, 25, &[]), ..Submission::default() };
        let newer = w.signed(&l1, newer).await;
        w.channels.submit(&w.stranger, "challenge", &w.params, &newer).await.unwrap();
        let again = w.channels.submit(&w.stranger, "again", &w.params, &newer).await.unwrap_err();
        assert_eq!(refused(again), RefusalKind::NothingNewer);
        let dispute = w.channels.dispute(w.id).await.unwrap().unwrap();
        assert_eq!((dispute.a, dispute.b), (half(5, 300, &list), half(8, 25, &[])));
        assert_eq!(dispute.deadline, submitted.deadline);

        // The payee of the lock reveals, once.
        let revealed = w.channels.reveal(&w.bob, "reveal", vec![preimage]).await.unwrap().value;
        assert_eq!(revealed[0].preimage, preimage);
        assert!(w.channels.reveal(&w.stranger, "again", vec![preimage]).await.unwrap().value.is_empty());
        assert!(w.channels.revealed_at(revealed[0].hash).await.unwrap().is_some());
        assert_eq!(w.channels.revealed_at(B256::ZERO).await.unwrap(), None);

        let settlement = w.channels.settlement(l1.provider(), w.id, 0).await.unwrap();
        assert_eq!((settlement.params.clone(), settlement.list_a.clone()), (w.params.clone(), list));
        let early = w.channels.settle(&w.stranger, "early", &settlement).await.unwrap_err();
        assert_eq!(refused(early), RefusalKind::TooEarly);
        l1.increase_time(HOUR + 1).await;
        l1.mine(1).await;
        let settled = w.channels.settle(&w.stranger, "settle", &settlement).await.unwrap().value;
        // 1000 − 300 + 25 − 70, and the rest.
        assert_eq!((settled.payA, settled.payB), (U256::from(655), U256::from(845)));
        assert_eq!(balance(&l1, w.params.payoutA).await, U256::from(655));
        assert_eq!(balance(&l1, w.params.payoutB).await, U256::from(845));
        assert_eq!(balance(&l1, w.channels.address()).await, U256::ZERO);
        assert_eq!(w.phase().await, ChannelPhase::Closed);
        assert_eq!(w.channels.dispute(w.id).await.unwrap(), None);
        let never = w.channels.deposit(&w.alice, "never", &w.params, false, U256::from(1)).await.unwrap_err();
        assert_eq!(refused(never), RefusalKind::Phase);
    }

    async fn a_tower_closes_a_channel_in_which_nothing_was_signed(l1: TestL1) {
        let w = world(&l1, ETH).await;
        w.fund(40, 2).await;
        let bare = Submission::default();
        let refusal = w.channels.submit(&w.stranger, "bare", &w.params, &bare).await.unwrap_err();
        assert_eq!(refused(refusal), RefusalKind::NotAuthorised);
        let digest = w.channels.contract().closeDigest(w.id, u64::MAX).call().await.unwrap();
        let consent = CloseConsent { valid_until: u64::MAX, signature: sign(&l1.signer(1), digest) };
        let agreed = Submission { consent: Some(consent), ..Submission::default() };
        w.channels.submit(&w.stranger, "close", &w.params, &agreed).await.unwrap();
        l1.increase_time(HOUR + 1).await;
        l1.mine(1).await;
        let settlement = w.channels.settlement(l1.provider(), w.id, 0).await.unwrap();
        w.channels.settle(&w.stranger, "settle", &settlement).await.unwrap();
        assert_eq!(balance(&l1, w.params.payoutA).await, U256::from(40));
        assert_eq!(balance(&l1, w.params.payoutB).await, U256::from(2));
    }

    async fn both_pay_out_together_and_a_refused_payment_can_be_claimed(l1: TestL1) {
        let mut w = world(&l1, ETH).await;
        // The contract's deployer has code that takes no ETH: the channels' own contract of another deployment.
        let deaf = ChannelsClient::deploy(&w.stranger, "deaf").await.unwrap().value.address();
        w.params.payoutB = deaf;
        w.id = w.channels.channel_id(&w.params).await.unwrap();
        w.fund(60, 40).await;
        let terms = w.payout(&l1, 10, 0).await;
        let paid = w.channels.cooperate(&w.stranger, "some", &w.params, &terms).await.unwrap().value;
        assert_eq!((paid.epoch, paid.closed), (0, false));
        let replayed = w.channels.cooperate(&w.stranger, "twice", &w.params, &terms).await.unwrap_err();
        assert_eq!(refused(replayed), RefusalKind::Signature);
        let terms = w.payout(&l1, 30, 60).await;
        let landed = w.channels.cooperate(&w.stranger, "all", &w.params, &terms).await.unwrap();
        assert!(landed.value.closed);
        let decoded = landed.receipt.logs().iter().filter_map(|log| decode_event(w.channels.address(), log));
        assert!(matches!(decoded.last(), Some(ChannelsEvents::Claimable(_))));
        assert_eq!(balance(&l1, w.params.payoutA).await, U256::from(40));
        assert_eq!(w.channels.claimable(ETH, deaf).await.unwrap(), U256::from(60));
        let error = w.channels.claim_for(&w.stranger, "claim", ETH, deaf).await.unwrap_err();
        assert_eq!(refused(error), RefusalKind::PaymentFailed);
        let error = w.channels.claim(&w.stranger, "nothing", ETH, w.stranger.address()).await.unwrap_err();
        assert_eq!(refused(error), RefusalKind::NothingToClaim);
    }

    async fn a_deposit_allows_what_it_needs_of_a_token(l1: TestL1) {
        let token = deploy_token(&l1).await;
        let w = world(&l1, token).await;
        mint(&l1, token, w.alice.address(), 1_000).await;
        let channels = &w.channels;
        channels.approve(&w.alice, "less", token, U256::from(3)).await.unwrap();
        let landed = channels.deposit(&w.alice, "open", &w.params, false, U256::from(600)).await.unwrap();
        assert_eq!(landed.value.amount, U256::from(600));
        channels.deposit(&w.alice, "open", &w.params, false, U256::from(600)).await.unwrap();
        assert_eq!(channels.channel(w.id).await.unwrap().net_a, 600, "the same id does not deposit twice");
        let error = channels.deposit(&w.alice, "more", &w.params, true, U256::from(401)).await.unwrap_err();
        assert_eq!(refused(error), RefusalKind::Token);
        let found = opened_by(l1.provider(), channels, w.alice.address(), 0).await.unwrap();
        assert_eq!(found.get(&w.id), Some(&w.params));
        let found = opened_by(l1.provider(), channels, w.bob.address(), 0).await.unwrap();
        assert_eq!(found.len(), 1);
        let terms = w.payout(&l1, 100, 500).await;
        let closed = channels.cooperate(&w.bob, "close", &w.params, &terms).await.unwrap();
        assert!(matches!(closed.value, Channels::Cooperated { closed: true, .. }));
    }

    async fn an_address_without_the_contract_is_named(l1: TestL1) {
        let nowhere = ChannelsClient::connect(l1.provider(), Address::repeat_byte(3)).await;
        assert!(matches!(nowhere, Err(ChannelsError::NoContract(_))), "{nowhere:?}");
    }
}

alloy::sol! {
    #[sol(rpc)]
    TestToken,
    "contracts/artifacts/test/TestToken.json"
}

async fn deploy_token(l1: &TestL1) -> Address {
    let owner = sender(l1, 3);
    let call = Call::create(TestToken::BYTECODE.clone());
    owner
        .send("token", call)
        .await
        .unwrap()
        .contract_address
        .unwrap()
}

async fn mint(l1: &TestL1, token: Address, to: Address, amount: u64) {
    let minted = TestToken::new(token, l1.provider().provider().clone());
    let call = minted.mint(to, U256::from(amount)).calldata().clone();
    let call = Call::new(token, U256::ZERO, call);
    sender(l1, 3).send("mint", call).await.unwrap();
}
