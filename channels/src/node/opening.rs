//! Agreeing on a channel and paying into it, so that a crash between any two steps neither loses nor doubles a deposit.
//!
//! ```text
//! proposer                                              acceptor
//! record Ours → OpenPropose ────────────────────────────→ check → record Theirs (durable)
//! check ←──────────────────────────────────── OpenAccept ┘
//! one write: channel, deposit record, Ours removed
//! deposit, named by the channel's id ──→ L1 ──→ head shows it → channel, Theirs removed (one write)
//! both: usable once the deposit is final and the peer was heard
//! ```
//! A proposal is made again after every connection until it is answered, and answered alike each time: same salt, same id. The
//! sender lands one transaction for a name, ever, so a deposit record that is found after a restart is simply sent again. What
//! went into a channel that the acceptor has forgotten comes back by a force close: an unused channel needs one signer only.

use super::broadcast::explain;
use super::convert::to_params;
use super::event::EventBody;
use super::handle::{Answer, NodeError};
use super::records::{self, Deposit, DepositState, Opening};
use super::runtime::State;
use super::talk::{self, Proposal, Talk};
use crate::digest::channel_id;
use crate::machine::Input;
use crate::machine::dispute::{ChainPhase, ChainReport, OnChain};
use crate::state::Params;
use crate::store::Table;
use crate::types::{Address, Amount, ChannelId, Hash32, PublicKey, Side, Timestamp};
use alloy::primitives::U256;
use millrace_l1::channels_client::{ChannelsClient, ChannelsError};
use millrace_l1::sender::{SendError, TransactionSender};
use rand::RngCore;
use rand::rngs::OsRng;

/// Channels of ours that are being agreed on at a time.
const MAX_OURS: usize = 16;
/// Agreements with one peer that wait for its deposit.
const MAX_THEIRS: usize = 8;
/// Agreements with all peers that wait for a deposit. L1 is asked about each of them, and identities are free.
const MAX_THEIRS_IN_ALL: usize = 256;
/// The oldest agreement makes room for a new one once it is older than this, seconds.
const ROOM_AFTER: u64 = 3600;
/// An unanswered proposal is given up after this, seconds.
const PROPOSAL_LIFE: u64 = 600;
/// An agreement without a deposit is forgotten after this, seconds.
const AGREEMENT_LIFE: u64 = 7 * 86_400;
/// A deposit that has ended is shown for so long, seconds.
const DONE_LIFE: u64 = 86_400;
/// A deposit that could not be sent is tried again after this, seconds.
const RETRY_AFTER: u64 = 15;

impl State {
    // ---- The proposer ----

    /// Asks a connected peer for a channel.
    pub(super) fn propose(
        &mut self,
        peer: PublicKey,
        token: Address,
        amount: Amount,
        window_secs: u32,
    ) -> Result<Answer, NodeError> {
        if amount == Amount::ZERO {
            return Err(NodeError::Zero);
        }
        if peer == self.node.identity().key {
            return Err(NodeError::Self_(peer));
        }
        if !self.connected.contains(&peer) {
            return Err(NodeError::NotConnected(peer));
        }
        let ours = self
            .openings
            .values()
            .filter(|opening| matches!(opening, Opening::Ours { .. }))
            .count();
        if ours >= MAX_OURS {
            return Err(NodeError::TooManyOpenings(ours));
        }
        let proposal = Proposal {
            payout: self.node.identity().payout,
            token,
            window_secs,
            salt: OsRng.next_u64(),
            deposit: amount.get(),
        };
        self.check_window(window_secs)?;
        let opening = Opening::Ours {
            peer,
            proposal,
            amount,
            since: self.now,
        };
        self.keep_opening(proposal.salt.to_be_bytes().to_vec(), opening);
        self.say(peer, &Talk::OpenPropose(proposal));
        Ok(Answer::Opening {
            salt: proposal.salt,
        })
    }

    fn check_window(&self, window_secs: u32) -> Result<(), NodeError> {
        let policy = &self.node.identity().policy;
        if window_secs < policy.min_window {
            return Err(NodeError::Step(crate::machine::StepError::Window {
                found: window_secs,
                wanted: policy.min_window,
            }));
        }
        Ok(())
    }

    fn accepted(&mut self, from: PublicKey, params: Params) -> Vec<Input> {
        let name = params.salt.to_be_bytes().to_vec();
        let Some(Opening::Ours {
            peer,
            proposal,
            amount,
            ..
        }) = self.openings.get(&name).cloned()
        else {
            return Vec::new();
        };
        let own = self.node.identity().key;
        let wanted = proposal.params(&own, &from, params.payout_b);
        if peer != from || wanted != Some(params) || params.check().is_err() {
            tracing::warn!(peer = %from, "the peer accepted something else than was proposed");
            return Vec::new();
        }
        let id = channel_id(&self.domain.separator(), &params);
        self.openings.remove(&name);
        self.rim.push(records::remove(Table::Openings, &name));
        self.keep_deposit(
            format!("open-{id}"),
            Deposit {
                channel: id,
                params,
                side: Side::A,
                amount,
                state: DepositState::Sending(None),
                since: self.now,
            },
        );
        self.events.push(EventBody::Agreed { channel: id, peer });
        vec![Input::AddChannel {
            params,
            side: Side::A,
            peer,
        }]
    }

    fn refused(&mut self, from: PublicKey, salt: u64, reason: String) {
        let name = salt.to_be_bytes().to_vec();
        let ours =
            matches!(self.openings.get(&name), Some(Opening::Ours { peer, .. }) if *peer == from);
        if ours {
            self.openings.remove(&name);
            self.rim.push(records::remove(Table::Openings, &name));
            self.events
                .push(EventBody::OpenRefused { peer: from, reason });
        }
    }

    // ---- The acceptor ----

    fn proposed(&mut self, from: PublicKey, proposal: Proposal) {
        let answer = match self.judge(from, proposal) {
            Ok(params) => Talk::OpenAccept(params),
            Err(reason) => Talk::OpenRefuse {
                salt: proposal.salt,
                reason,
            },
        };
        self.say(from, &answer);
    }

    fn judge(&mut self, from: PublicKey, proposal: Proposal) -> Result<Params, String> {
        let identity = self.node.identity();
        let (own, payout) = (identity.key, identity.payout);
        let params = proposal
            .params(&from, &own, payout)
            .ok_or("the peer's key has no address")?;
        params.check().map_err(|error| error.to_string())?;
        if proposal.token != Address::ZERO && !self.tokens.contains(&proposal.token) {
            return Err(format!("token {} is not known here", proposal.token));
        }
        let wanted = identity.policy.min_window;
        if params.window_secs < wanted {
            return Err(format!("the dispute window is shorter than {wanted} s"));
        }
        let id = channel_id(&self.domain.separator(), &params);
        if self.node.channels().contains_key(&id) || self.openings.contains_key(&id.0[..]) {
            return Ok(params);
        }
        let waiting = self
            .openings
            .values()
            .filter(|opening| matches!(opening, Opening::Theirs { peer, .. } if *peer == from))
            .count();
        if waiting >= MAX_THEIRS {
            return Err(format!(
                "{waiting} agreed channels wait for a deposit already"
            ));
        }
        self.make_room()?;
        let opening = Opening::Theirs {
            peer: from,
            params,
            since: self.now,
        };
        self.keep_opening(id.0.to_vec(), opening);
        Ok(params)
    }

    fn make_room(&mut self) -> Result<(), String> {
        let waiting: Vec<(Timestamp, &Vec<u8>)> = self
            .openings
            .iter()
            .filter_map(|(name, opening)| match opening {
                Opening::Theirs { since, .. } => Some((*since, name)),
                Opening::Ours { .. } => None,
            })
            .collect();
        if waiting.len() < MAX_THEIRS_IN_ALL {
            return Ok(());
        }
        match waiting.iter().min() {
            Some((since, name)) if self.now > since + ROOM_AFTER => {
                let name = (*name).clone();
                self.openings.remove(&name);
                self.rim.push(records::remove(Table::Openings, &name));
                Ok(())
            }
            _ => Err("too many agreed channels wait for a deposit; ask again later".to_owned()),
        }
    }

    /// Agreements whose deposit L1 may show.
    pub(super) fn agreed(&self) -> Vec<ChannelId> {
        self.openings
            .iter()
            .filter(|(_, opening)| matches!(opening, Opening::Theirs { .. }))
            .filter_map(|(name, _)| Some(ChannelId(name.as_slice().try_into().ok()?)))
            .collect()
    }

    /// Agreements that became channels: L1 shows their deposit. Each level is reported once, and the final one comes first.
    pub(super) fn agreed_on_chain(&mut self, report: &ChainReport) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (id, chain) in &report.channels {
            if chain.phase != ChainPhase::Open || chain.pot() == 0 {
                continue;
            }
            let Some(Opening::Theirs { peer, params, .. }) = self.openings.remove(&id.0[..]) else {
                continue;
            };
            self.rim.push(records::remove(Table::Openings, &id.0));
            self.events.push(EventBody::Agreed { channel: *id, peer });
            inputs.push(Input::AddChannel {
                params,
                side: Side::B,
                peer,
            });
        }
        inputs
    }

    // ---- Both ----

    /// Takes in what a peer said beside the channels' messages.
    pub(super) fn talked(&mut self, from: PublicKey, said: Talk) -> Vec<Input> {
        match said {
            Talk::OpenPropose(proposal) => self.proposed(from, proposal),
            Talk::OpenAccept(params) => return self.accepted(from, params),
            Talk::OpenRefuse { salt, reason } => self.refused(from, salt, reason),
            Talk::TowerReceipt(receipt) => return self.receipt(from, receipt),
            Talk::Paid(claim) => self.claimed(from, claim),
            Talk::PaidSeen(hash) => self.payee_saw(from, hash),
            Talk::TowerRecord(watch) => return self.tower_record(from, watch),
            Talk::TowerNoRecord(channel) => self.tower_answered(from, channel),
            Talk::TowerAsk(channel) => self.say(from, &Talk::TowerNoRecord(channel)),
            Talk::TowerRefuse { channel, reason } => {
                tracing::warn!(tower = %from, %channel, reason, "a tower refuses a record");
            }
            Talk::TowerWatch(watch) => {
                let channel = channel_id(&self.domain.separator(), &watch.params);
                let reason = "this node is no watchtower".to_owned();
                self.say(from, &Talk::TowerRefuse { channel, reason });
            }
        }
        Vec::new()
    }

    /// Proposals of ours are made again after a connection.
    pub(super) fn opening_connected(&mut self, peer: PublicKey) {
        let again: Vec<Proposal> = self
            .openings
            .values()
            .filter_map(|opening| match opening {
                Opening::Ours {
                    peer: asked,
                    proposal,
                    ..
                } if *asked == peer => Some(*proposal),
                _ => None,
            })
            .collect();
        for proposal in again {
            self.say(peer, &Talk::OpenPropose(proposal));
        }
    }

    /// Gives up what waits too long, and tries deposits again.
    pub(super) fn opening_tick(&mut self) {
        let now = self.now;
        let late: Vec<Vec<u8>> = self
            .openings
            .iter()
            .filter(|(_, opening)| now > opening.ends())
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            self.rim.push(records::remove(Table::Openings, &name));
            if let Some(Opening::Ours { peer, .. }) = self.openings.remove(&name) {
                self.events.push(EventBody::OpenRefused {
                    peer,
                    reason: "no answer within 10 minutes; ask again".to_owned(),
                });
            }
        }
        let done: Vec<String> = self
            .deposits
            .iter()
            .filter(|(_, deposit)| !matches!(deposit.state, DepositState::Sending(_)))
            .filter(|(_, deposit)| now > deposit.since + DONE_LIFE)
            .map(|(operation, _)| operation.clone())
            .collect();
        for operation in done {
            self.deposits.remove(&operation);
            self.rim
                .push(records::remove(Table::Deposits, operation.as_bytes()));
        }
        let due: Vec<String> = self
            .deposits
            .iter()
            .filter(|(_, deposit)| {
                let waits = matches!(deposit.state, DepositState::Sending(Some(_)));
                waits && now > deposit.since + RETRY_AFTER
            })
            .map(|(operation, _)| operation.clone())
            .collect();
        for operation in due {
            if let Some(deposit) = self.deposits.get_mut(&operation) {
                deposit.since = now;
                deposit.state = DepositState::Sending(None);
            }
            self.begin.push(operation);
        }
    }

    /// Deposits that a crash may have interrupted.
    pub(super) fn unfinished_deposits(&self) -> Vec<String> {
        self.deposits
            .iter()
            .filter(|(_, deposit)| matches!(deposit.state, DepositState::Sending(_)))
            .map(|(operation, _)| operation.clone())
            .collect()
    }

    /// Pays more into a channel of ours.
    pub(super) fn deposit_more(
        &mut self,
        id: ChannelId,
        amount: Amount,
    ) -> Result<Answer, NodeError> {
        if amount == Amount::ZERO {
            return Err(NodeError::Zero);
        }
        let channel = self
            .node
            .channels()
            .get(&id)
            .ok_or(crate::machine::StepError::UnknownChannel(id))?;
        // The contract takes nothing once a close has begun, and a close may be under way.
        let open = |view: &Option<OnChain>| view.as_ref().is_none_or(OnChain::is_open);
        if channel.closed || channel.closing || !open(&channel.at_head) {
            return Err(crate::machine::StepError::NotOpen(id).into());
        }
        let operation = format!("deposit-{id}-{:016x}", OsRng.next_u64());
        let deposit = Deposit {
            channel: id,
            params: channel.params,
            side: channel.side,
            amount,
            state: DepositState::Sending(None),
            since: self.now,
        };
        self.keep_deposit(operation.clone(), deposit);
        Ok(Answer::Depositing { operation })
    }

    /// Notes what became of a deposit.
    pub(super) fn deposited(&mut self, operation: &str, result: Result<Hash32, (String, bool)>) {
        let Some(mut deposit) = self.deposits.get(operation).cloned() else {
            return;
        };
        let channel = deposit.channel;
        match result {
            Ok(transaction) => {
                deposit.state = DepositState::Landed(transaction);
                self.events.push(EventBody::Deposited {
                    channel,
                    amount: deposit.amount,
                    transaction,
                });
            }
            Err((reason, true)) => {
                deposit.state = DepositState::Refused(reason.clone());
                self.events
                    .push(EventBody::DepositRefused { channel, reason });
            }
            Err((reason, false)) => {
                deposit.state = DepositState::Sending(Some(reason));
                deposit.since = self.now;
            }
        }
        let record = records::write(Table::Deposits, operation.as_bytes(), &deposit);
        self.rim.push(record);
        self.deposits.insert(operation.to_owned(), deposit);
    }

    fn keep_deposit(&mut self, operation: String, deposit: Deposit) {
        let record = records::write(Table::Deposits, operation.as_bytes(), &deposit);
        self.rim.push(record);
        self.deposits.insert(operation.clone(), deposit);
        self.begin.push(operation);
    }

    fn keep_opening(&mut self, name: Vec<u8>, opening: Opening) {
        self.rim
            .push(records::write(Table::Openings, &name, &opening));
        self.openings.insert(name, opening);
    }

    pub(super) fn say(&mut self, to: PublicKey, talk: &Talk) {
        self.talks.push((to, talk::encode(talk)));
    }

    /// Notes channels that have become usable.
    pub(super) fn note_usable(&mut self) {
        let rules = self.node.rules();
        let usable: Vec<ChannelId> = self
            .node
            .channels()
            .values()
            .filter(|channel| channel.is_open() && channel.session.established)
            .filter(|channel| channel.net(Side::A, rules) + channel.net(Side::B, rules) > 0)
            .map(|channel| channel.id)
            .filter(|id| !self.usable.contains(id))
            .collect();
        for id in usable {
            self.usable.insert(id);
            self.events.push(EventBody::Usable { channel: id });
        }
    }

    /// Notes channels that L1's head shows closing.
    pub(super) fn note_closing(&mut self, id: &ChannelId, chain: &OnChain) {
        let known = self.node.channels().get(id);
        let news = known.is_some_and(|channel| {
            channel.at_head.as_ref().is_none_or(OnChain::is_open)
                && matches!(chain.phase, ChainPhase::Closing(_))
        });
        if news {
            self.events.push(EventBody::Closing { channel: *id });
        }
    }
}

impl Opening {
    /// When it is given up.
    pub fn ends(&self) -> Timestamp {
        match self {
            Self::Ours { since, .. } => since + PROPOSAL_LIFE,
            Self::Theirs { since, .. } => since + AGREEMENT_LIFE,
        }
    }
}

/// Lands a deposit, once for its operation. An error says whether the contract refuses it for good.
pub(super) async fn send_deposit(
    client: &ChannelsClient,
    sender: &TransactionSender,
    operation: &str,
    deposit: &Deposit,
) -> Result<Hash32, (String, bool)> {
    let params = to_params(&deposit.params);
    let amount = U256::from(deposit.amount.get());
    let side_b = deposit.side == Side::B;
    let landed = client
        .deposit(sender, operation, &params, side_b, amount)
        .await;
    match landed {
        Ok(landed) => Ok(Hash32(landed.receipt.transaction_hash.0)),
        Err(error) => Err(explain_deposit(&error)),
    }
}

fn explain_deposit(error: &ChannelsError) -> (String, bool) {
    match error {
        ChannelsError::Send(error @ SendError::Reverted { .. }) => (explain(error), true),
        ChannelsError::Send(error) => (explain(error), false),
        ChannelsError::Refused(refusal) => (refusal.to_string(), true),
        other => (other.to_string(), false),
    }
}
