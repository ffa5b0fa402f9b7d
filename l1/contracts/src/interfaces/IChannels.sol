// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title  Millrace payment channels, version 1
/// @notice Holds the money of all channels, in all tokens, and pays it out by what both sides signed. Immutable: no
///         owner, no upgrade, no pause, no fee.
///
/// Flow:
///   deposit (the first one opens) → payments off chain
///   → cooperate: both sign a payout; the one that empties the pot closes for good
///   → or submit, by one side alone → submit, anything newer, by anybody → settle after the deadline → claim, if a
///     payment failed; reveal at any time, for all channels at once.
///
/// A channel is two halves. Half A is what A has promised to B over the channel's life: written by A alone, versions
/// only grow; half B is B's. A snapshot is one of each, signed by both. Of two snapshots the newer of each half
/// counts, whichever order they arrive in.
///   what A gets = netA + paid to A − paid by A + B's locks that were won − A's locks that were won, within the pot.
///
/// A lock is 56 bytes, packed: sha256 of the preimage (32) ‖ amount (u128) ‖ expiry (u64), big-endian. It is won if the
/// contract saw its preimage no later than its expiry, else dead; before either is certain nothing can be settled.
///
/// "Authorised by X" is: X sends the transaction, or its signature is given: r ‖ s ‖ v over the EIP-712 digest, 65 bytes,
/// s in the lower half, v 27 or 28. Every time is in Unix seconds, amounts are in units of the token.
///
/// Balances of tokens that change by themselves, rebasing ones, are not followed: do not use such a token.
interface IChannels {
    // ------------------------------------------------------------------------------------------------ types

    /// @notice What a channel is, for ever. Its id is keccak256(abi.encode(DOMAIN_SEPARATOR, params)).
    /// @param  signerA key that signs for side A; not 0, not signerB
    /// @param  payoutA who receives what A gets; not 0
    /// @param  signerB key that signs for side B; not 0
    /// @param  payoutB who receives what B gets; not 0
    /// @param  token   ERC-20, or 0 for ETH
    /// @param  window  seconds between the first submit and settle: 1 hour to 30 days
    /// @param  salt    tells channels of the same two apart: an id never lives again
    struct Params {
        address signerA;
        address payoutA;
        address signerB;
        address payoutB;
        address token;
        uint32 window;
        uint64 salt;
    }

    /// @notice One side's counters.
    /// @param  version higher wins; 0 is the zero half: nothing paid, no locks
    /// @param  paid    all that this side ever paid to the other, not a balance
    /// @param  locks   keccak256 of the packed list of this side's locks, 0 if there are none
    struct Half {
        uint64 version;
        uint112 paid;
        bytes32 locks;
    }

    /// @notice A snapshot, or the newest halves of several.
    struct Halves {
        Half a;
        Half b;
    }

    /// @notice Where a channel stands. None: never opened.
    enum Phase {
        None,
        Open,
        Closing,
        Closed
    }

    /// @notice A channel's state.
    /// @param  netA  deposits for A less cooperative payouts to A: negative once A took out what B had paid
    /// @param  netB  the same of B; netA + netB is the pot
    /// @param  epoch number of cooperative payouts so far, which the next one signs; 0 when closed
    struct Channel {
        Phase phase;
        uint32 epoch;
        int112 netA;
        int112 netB;
    }

    /// @notice What was submitted.
    /// @param  deadline submit works before it, settle from it on; 0 = no dispute
    struct Dispute {
        uint64 deadline;
        Halves halves;
    }

    // ------------------------------------------------------------------------------------------------ events

    /// @notice Money arrived; the first time, the channel opened. The parameters are all here, the signers to be found by;
    ///         `amount` is what really arrived.
    event Deposited(
        bytes32 indexed channelId,
        address indexed signerA,
        address indexed signerB,
        address payoutA,
        address payoutB,
        address token,
        uint32 window,
        uint64 salt,
        bool sideB,
        uint256 amount,
        int112 netA,
        int112 netB
    );
    /// @notice A cooperative payout. `closed`: it emptied the pot.
    event Cooperated(bytes32 indexed channelId, uint32 epoch, uint112 payA, uint112 payB, bool closed);
    /// @notice The channel is closing, with `a` and `b` the newest halves so far. `deadline` never changes.
    event Submitted(bytes32 indexed channelId, Half a, Half b, uint64 deadline);
    /// @notice The list behind a half that a submit advanced, if it has one: settle takes it as it is here.
    event LocksSubmitted(bytes32 indexed channelId, bool sideB, bytes list);
    /// @notice The channel closed with these payouts, after a dispute.
    event Settled(bytes32 indexed channelId, uint256 payA, uint256 payB);
    /// @notice A preimage was seen for the first time; revealedAt(hash) is this block's time.
    event Revealed(bytes32 indexed hash, bytes32 preimage);
    /// @notice A payment failed; `account` can claim it.
    event Claimable(address indexed token, address indexed account, uint256 amount);
    /// @notice A failed payment was made good.
    event Claimed(address indexed token, address indexed account, address receiver, uint256 amount);

    // ------------------------------------------------------------------------------------------------ errors

    /// @notice A call back into the contract.
    error Reentered();
    error SignerIsZero();
    error SignersEqual(address signer);
    error PayoutIsZero();
    /// @notice The payout address is this contract, which would never claim it.
    error PayoutIsChannels();
    error WindowOutOfRange(uint256 min, uint256 max, uint256 window);
    error AmountIsZero();
    /// @notice `msg.value` is not the amount, or came with a token.
    error ValueMismatch(uint256 expected, uint256 value);
    /// @notice More in one channel than is allowed.
    error PotTooLarge(uint256 max, uint256 pot);
    /// @notice No deposit was ever made for these parameters.
    error ChannelNotOpen(bytes32 channelId);
    error ChannelClosing(bytes32 channelId);
    error ChannelClosed(bytes32 channelId);
    /// @notice There is no dispute to settle.
    error ChannelNotClosing(bytes32 channelId);
    /// @notice A signature's time is over.
    error Expired(uint64 validUntil);
    /// @notice The signature is not by `signer`, or not canonical.
    error SignatureInvalid(address signer);
    /// @notice Only a signer opens a dispute, or who holds a signer's Close.
    error NotAuthorisedToClose(address sender);
    error Overdrawn(uint256 pot, uint256 payouts);
    /// @notice More cooperative payouts than an epoch can count: close the channel.
    error EpochsExhausted();
    /// @notice Lifetime payouts to one side that its counter cannot hold: close the channel.
    error NetOutOfRange(int256 net);
    /// @notice Version 0 with something paid or locked.
    error ZeroHalfNotEmpty();
    /// @notice Neither half is newer than what was submitted before.
    error NothingNewer(uint64 versionA, uint64 versionB);
    /// @notice Too late to submit.
    error DeadlinePassed(uint64 deadline);
    /// @notice Too early to settle.
    error DeadlineNotPassed(uint64 deadline);
    error ListLength(uint256 length);
    error TooManyLocks(uint256 max, uint256 count);
    /// @notice The list is not the one that the half's `locks` is the hash of.
    error ListMismatch(bytes32 expected, bytes32 hash);
    error LockAmountTooLarge(uint256 index, uint256 amount);
    error LockExpiryTooLate(uint256 index, uint256 latest, uint64 expiry);
    /// @notice The lock can still be won: settle after its expiry.
    error LockPending(bytes32 hash, uint64 expiry);
    /// @notice Too little gas to give a payment its share.
    error GasTooLow(uint256 needed, uint256 available);
    error NothingToClaim(address token, address account);
    error ReceiverIsZero();
    error PaymentFailed(address token, address receiver);

    // TokenCallFailed(address token): an ERC-20 refuses to be taken, or has no code; from the library Payments.

    // ------------------------------------------------------------------------------------------------ money

    /// @notice Adds to one side of a channel, and opens it if it is new. Anybody may pay for either side.
    /// @param  amount ETH: msg.value; ERC-20: what is taken of the sender's allowance, what arrives is credited
    function deposit(Params calldata params, bool sideB, uint256 amount) external payable;

    /// @notice Pays out of an open or closing channel what both agreed on. If that empties the pot, the channel is closed
    ///         for good. Authorised by both for Coop(channelId, epoch, payA, payB, validUntil), epoch being the channel's.
    function cooperate(
        Params calldata params,
        uint112 payA,
        uint112 payB,
        uint64 validUntil,
        bytes calldata sigA,
        bytes calldata sigB
    ) external;

    /// @notice Closes an open channel by its newest halves, or adds newer ones to a dispute; before the deadline.
    ///         The first one fixes the deadline: now + window. It is by a signer, or by anybody with one signer's
    ///         Close(channelId, validUntil); the others are by anybody.
    ///         Halves other than version 0 and 0 are authorised by both for Snapshot(channelId, versionA, paidA,
    ///         locksA, versionB, paidB, locksB). A first submit of version 0 and 0 needs nobody's.
    /// @param  listA      side A's packed locks; looked at only if half A is newer
    /// @param  listB      side B's packed locks; looked at only if half B is newer
    /// @param  closeUntil validUntil of the Close
    /// @param  closeSig   a signer's signature of the Close; looked at only in a first submit by a stranger
    function submit(
        Params calldata params,
        Halves calldata halves,
        bytes calldata listA,
        bytes calldata listB,
        bytes calldata sigA,
        bytes calldata sigB,
        uint64 closeUntil,
        bytes calldata closeSig
    ) external;

    /// @notice Pays a closing channel out, from the deadline on, and closes it for good. Each lock has to be won or dead.
    ///         By anybody.
    /// @param  listA packed locks of the dispute's half A
    /// @param  listB packed locks of the dispute's half B
    function settle(Params calldata params, bytes calldata listA, bytes calldata listB) external;

    /// @notice Records preimages of 32 bytes each, for all channels. What was seen before keeps its time.
    function reveal(bytes32[] calldata preimages) external;

    /// @notice Pays all that the sender can claim of `token` to `receiver`.
    function claim(address token, address receiver) external returns (uint256 amount);

    /// @notice Pays all that `account` can claim of `token` to `account`. By anybody.
    function claimFor(address token, address account) external returns (uint256 amount);

    // ------------------------------------------------------------------------------------------------ views

    /// @notice EIP-712 domain: name "Millrace Channel", version "1", chain id, this address. Fixed at deployment.
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    /// @notice The domain's parts (EIP-5267).
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
    /// @notice Id of the channel with these parameters, opened or not.
    function channelId(Params calldata params) external view returns (bytes32);
    /// @notice State of a channel.
    function channel(bytes32 id) external view returns (Channel memory);
    /// @notice What was submitted to a channel that is closing; all zero otherwise.
    function dispute(bytes32 id) external view returns (Dispute memory);
    /// @notice When the preimage of a sha256 hash was first seen; 0 if never.
    function revealedAt(bytes32 hash) external view returns (uint256);
    /// @notice What failed payments left for `account`.
    function claimable(address token, address account) external view returns (uint256);
    /// @notice What both sides sign of a snapshot.
    function snapshotDigest(bytes32 id, Halves calldata halves) external view returns (bytes32);
    /// @notice What both sides sign of a cooperative payout.
    function coopDigest(bytes32 id, uint32 epoch, uint112 payA, uint112 payB, uint64 validUntil)
        external
        view
        returns (bytes32);
    /// @notice What a signer signs so that anybody can open the dispute in its name.
    function closeDigest(bytes32 id, uint64 validUntil) external view returns (bytes32);
}
