// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IChannels} from "./interfaces/IChannels.sol";
import {ChannelDigests} from "./libraries/ChannelDigests.sol";
import {LockList} from "./libraries/LockList.sol";
import {Payments} from "./libraries/Payments.sol";

// Windows and expiries are much longer than a block's time can be off by.
// slither-disable-start timestamp

/// @title  Millrace payment channels
/// @notice See IChannels. One lock over everything that changes state; every money function checks, then writes, then
///         calls, but for deposit, which reads the state only after the token's call.
contract Channels is IChannels {
    // ------------------------------------------------------------------------------------------------ constants

    /// @notice Shortest and longest dispute window.
    uint256 public constant MIN_WINDOW = 1 hours;
    uint256 public constant MAX_WINDOW = 30 days;
    /// @notice A lock that is submitted expires no later than this after the deadline.
    uint256 public constant EXPIRY_AFTER_DEADLINE = 1 days;
    /// @notice Cap of what a channel holds: below 2^100, so that no sum of pot, turnover and locks leaves 128 bits.
    uint256 public constant MAX_POT = (1 << 100) - 1;
    /// @notice What one payment may burn.
    uint256 public constant PAYMENT_GAS = 200_000;

    /// @dev A payment's share of the gas left is 63/64; noting a failure and its event cost the rest.
    uint256 private constant GAS_TO_PAY = PAYMENT_GAS * 64 / 63 + 90_000;
    /// @dev In a state's epoch: the channel is closing.
    uint32 private constant CLOSING = 1 << 31;
    /// @dev A state's epoch once the channel is closed. No epoch gets there: the last one is CLOSING − 2.
    uint32 private constant CLOSED = type(uint32).max;
    uint256 private constant HAS_LOCKS_A = 1 << 192;
    uint256 private constant HAS_LOCKS_B = 1 << 193;

    // ------------------------------------------------------------------------------------------------ storage

    /// @dev One slot. The pot, netA + netB, is 1 to MAX_POT while the channel is open or closing. All zero: never opened;
    ///      zero with the epoch CLOSED: closed, for ever.
    struct State {
        int112 netA;
        int112 netB;
        uint32 epoch;
    }

    /// @dev What was submitted, raw, so that nobody has to know what others submitted before. All zero but while the channel
    ///      is closing.
    /// @param head  deadline | versionA << 64 | versionB << 128 | HAS_LOCKS_A | HAS_LOCKS_B
    /// @param paid  paidA | paidB << 112; zero unless a version is not
    /// @param locks of A, of B; touched only if the head says so
    struct StoredContest {
        uint256 head;
        uint256 paid;
        bytes32[2] locks;
    }

    /// @dev A StoredContest taken apart.
    struct Contest {
        uint64 deadline;
        Half a;
        Half b;
    }

    /// @inheritdoc IChannels
    bytes32 public immutable DOMAIN_SEPARATOR;
    /// @dev As deployed, like the separator: a chain that splits keeps its channels on both sides.
    uint256 private immutable CHAIN_ID;

    /// @dev A whole word, which needs no reading before it is written.
    uint256 private transient _entered;

    mapping(bytes32 id => State) private _states;
    mapping(bytes32 id => StoredContest) private _contests;
    /// @inheritdoc IChannels
    mapping(bytes32 hash => uint256) public revealedAt;
    /// @inheritdoc IChannels
    mapping(address token => mapping(address account => uint256)) public claimable;

    constructor() {
        DOMAIN_SEPARATOR = ChannelDigests.separator();
        CHAIN_ID = block.chainid;
    }

    // ------------------------------------------------------------------------------------------------ guards

    /// @dev One lock over everything that changes state.
    modifier locked() {
        _enter();
        _;
        _entered = 0;
    }

    function _enter() private {
        if (_entered != 0) revert Reentered();
        _entered = 1;
    }

    /// @dev The state of a channel that is open or closing.
    function _live(bytes32 id) private view returns (State memory state) {
        state = _states[id];
        if (state.epoch == CLOSED) revert ChannelClosed(id);
        // An open channel's pot is never 0.
        // slither-disable-next-line incorrect-equality
        if (_pot(state) == 0) revert ChannelNotOpen(id);
    }

    function _pot(State memory state) private pure returns (uint256) {
        // Both are in 112 bits; the pot is never negative.
        return uint256(int256(state.netA) + state.netB);
    }

    /// @dev `signer` sends this, or has signed `digest`.
    function _authorise(bytes32 digest, address signer, bytes calldata signature) private view {
        if (msg.sender == signer) return;
        address recovered = ChannelDigests.recover(digest, signature);
        if (recovered == address(0) || recovered != signer) revert SignatureInvalid(signer);
    }

    // ------------------------------------------------------------------------------------------------ deposit

    /// @inheritdoc IChannels
    function deposit(Params calldata params, bool sideB, uint256 amount) external payable locked {
        _requireSound(params);
        uint256 arrived = _take(params.token, amount);
        if (arrived == 0) revert AmountIsZero();
        bytes32 id = channelId(params);
        State memory state = _states[id];
        if (state.epoch >= CLOSING) {
            if (state.epoch == CLOSED) revert ChannelClosed(id);
            revert ChannelClosing(id);
        }
        // What arrived is checked before it is added: a token may claim any number.
        if (arrived > MAX_POT || _pot(state) + arrived > MAX_POT) revert PotTooLarge(MAX_POT, arrived);
        if (sideB) state.netB = _net(int256(state.netB) + int256(arrived));
        else state.netA = _net(int256(state.netA) + int256(arrived));
        _states[id] = state;
        _emitDeposited(id, params, sideB, arrived, state);
    }

    function _emitDeposited(bytes32 id, Params calldata p, bool sideB, uint256 amount, State memory state) private {
        (address a, address b) = (p.signerA, p.signerB);
        emit Deposited(id, a, b, p.payoutA, p.payoutB, p.token, p.window, p.salt, sideB, amount, state.netA, state.netB);
    }

    function _requireSound(Params calldata params) private view {
        if (params.signerA == address(0) || params.signerB == address(0)) revert SignerIsZero();
        if (params.signerA == params.signerB) revert SignersEqual(params.signerA);
        if (params.payoutA == address(0) || params.payoutB == address(0)) revert PayoutIsZero();
        if (params.payoutA == address(this) || params.payoutB == address(this)) revert PayoutIsChannels();
        if (params.window < MIN_WINDOW || params.window > MAX_WINDOW) {
            revert WindowOutOfRange(MIN_WINDOW, MAX_WINDOW, params.window);
        }
    }

    /// @dev ETH comes with the call; of an ERC-20 counts what really arrives.
    function _take(address token, uint256 amount) private returns (uint256) {
        uint256 expected = token == address(0) ? amount : 0;
        if (msg.value != expected) revert ValueMismatch(expected, msg.value);
        return token == address(0) ? amount : Payments.pull(token, msg.sender, amount);
    }

    /// @dev A cast that stole other channels' money if it were unchecked.
    function _net(int256 net) private pure returns (int112) {
        if (net < type(int112).min || net > type(int112).max) revert NetOutOfRange(net);
        return int112(net);
    }

    // ------------------------------------------------------------------------------------------------ cooperate

    /// @inheritdoc IChannels
    function cooperate(
        Params calldata params,
        uint112 payA,
        uint112 payB,
        uint64 validUntil,
        bytes calldata sigA,
        bytes calldata sigB
    ) external locked {
        bytes32 id = channelId(params);
        State memory state = _live(id);
        if (block.timestamp > validUntil) revert Expired(validUntil);
        uint32 epoch = state.epoch & ~CLOSING;
        bytes32 digest = ChannelDigests.coop(DOMAIN_SEPARATOR, id, epoch, payA, payB, validUntil);
        _authorise(digest, params.signerA, sigA);
        _authorise(digest, params.signerB, sigB);
        bool closed = _payFrom(id, state, payA, payB);
        emit Cooperated(id, epoch, payA, payB, closed);
        _payOrCredit(params.token, params.payoutA, payA);
        _payOrCredit(params.token, params.payoutB, payB);
    }

    /// @dev Writes what a cooperative payout leaves; true if that is nothing.
    function _payFrom(bytes32 id, State memory state, uint256 payA, uint256 payB) private returns (bool closed) {
        uint256 pot = _pot(state);
        if (payA + payB > pot) revert Overdrawn(pot, payA + payB);
        closed = payA + payB == pot;
        if (closed) {
            if (state.epoch >= CLOSING) _forget(_contests[id], _read(id));
            _bury(id);
        } else {
            // CLOSING − 1 with the flag would be CLOSED.
            if (state.epoch & ~CLOSING == CLOSING - 2) revert EpochsExhausted();
            state.netA = _net(int256(state.netA) - int256(payA));
            state.netB = _net(int256(state.netB) - int256(payB));
            ++state.epoch;
            _states[id] = state;
        }
    }

    // ------------------------------------------------------------------------------------------------ dispute

    /// @inheritdoc IChannels
    function submit(
        Params calldata params,
        Halves calldata halves,
        bytes calldata listA,
        bytes calldata listB,
        bytes calldata sigA,
        bytes calldata sigB,
        uint64 closeUntil,
        bytes calldata closeSig
    ) external locked {
        bytes32 id = channelId(params);
        Contest memory contest = _read(id);
        bool first = contest.deadline == 0;
        if (first) {
            _open(id, params, closeUntil, closeSig);
            contest.deadline = uint64(block.timestamp + params.window);
        } else if (block.timestamp >= contest.deadline) {
            revert DeadlinePassed(contest.deadline);
        }
        _requireSigned(id, params, halves, sigA, sigB);
        bool newer = _merge(id, contest, halves, listA, listB);
        if (!first && !newer) revert NothingNewer(contest.a.version, contest.b.version);
        _write(_contests[id], contest);
        emit Submitted(id, contest.a, contest.b, contest.deadline);
    }

    /// @dev What was submitted to a channel; of the slots, those that are not zero.
    function _read(bytes32 id) private view returns (Contest memory contest) {
        StoredContest storage stored = _contests[id];
        uint256 head = stored.head;
        if (head == 0) return contest;
        contest.deadline = uint64(head);
        (contest.a.version, contest.b.version) = (uint64(head >> 64), uint64(head >> 128));
        if (head >> 64 != 0) {
            uint256 paid = stored.paid;
            (contest.a.paid, contest.b.paid) = (uint112(paid), uint112(paid >> 112));
        }
        if (head & HAS_LOCKS_A != 0) contest.a.locks = stored.locks[0];
        if (head & HAS_LOCKS_B != 0) contest.b.locks = stored.locks[1];
    }

    /// @dev The first two slots; _merge writes the locks.
    function _write(StoredContest storage stored, Contest memory contest) private {
        uint256 versions = (uint256(contest.a.version) << 64) | (uint256(contest.b.version) << 128);
        uint256 flags = (contest.a.locks != 0 ? HAS_LOCKS_A : 0) | (contest.b.locks != 0 ? HAS_LOCKS_B : 0);
        stored.head = contest.deadline | versions | flags;
        if (versions != 0) stored.paid = contest.a.paid | (uint256(contest.b.paid) << 112);
    }

    /// @dev Clears what `contest` was read from.
    function _forget(StoredContest storage stored, Contest memory contest) private {
        stored.head = 0;
        if (contest.a.version | contest.b.version != 0) stored.paid = 0;
        if (contest.a.locks != 0) stored.locks[0] = 0;
        if (contest.b.locks != 0) stored.locks[1] = 0;
    }

    /// @dev An id never lives again.
    function _bury(bytes32 id) private {
        _states[id] = State(0, 0, CLOSED);
    }

    /// @dev Turns an open channel into one that is closing.
    function _open(bytes32 id, Params calldata params, uint64 closeUntil, bytes calldata closeSig) private {
        State memory state = _live(id);
        if (msg.sender != params.signerA && msg.sender != params.signerB) {
            if (closeSig.length == 0) revert NotAuthorisedToClose(msg.sender);
            if (block.timestamp > closeUntil) revert Expired(closeUntil);
            bytes32 digest = ChannelDigests.close(DOMAIN_SEPARATOR, id, closeUntil);
            address recovered = ChannelDigests.recover(digest, closeSig);
            // A channel's signers are not 0.
            if (recovered != params.signerA && recovered != params.signerB) revert NotAuthorisedToClose(msg.sender);
        }
        // Without a dispute an open channel has no flag.
        state.epoch |= CLOSING;
        _states[id] = state;
    }

    /// @dev The start of a channel needs no signature: a deposit is safe before the first message.
    function _requireSigned(
        bytes32 id,
        Params calldata params,
        Halves calldata halves,
        bytes calldata sigA,
        bytes calldata sigB
    ) private view {
        _requireZeroIfVersionZero(halves.a);
        _requireZeroIfVersionZero(halves.b);
        if (halves.a.version | halves.b.version == 0) return;
        bytes32 digest = ChannelDigests.snapshot(DOMAIN_SEPARATOR, id, halves);
        _authorise(digest, params.signerA, sigA);
        _authorise(digest, params.signerB, sigB);
    }

    function _requireZeroIfVersionZero(Half calldata half) private pure {
        if (half.version == 0 && (half.paid != 0 || half.locks != 0)) revert ZeroHalfNotEmpty();
    }

    /// @dev Takes the newer of each half; true if there is one. A list that comes with an older half is not looked at:
    ///      somebody may have submitted that half a moment before.
    function _merge(
        bytes32 id,
        Contest memory contest,
        Halves calldata halves,
        bytes calldata listA,
        bytes calldata listB
    ) private returns (bool newer) {
        uint256 latestExpiry = contest.deadline + EXPIRY_AFTER_DEADLINE;
        if (halves.a.version > contest.a.version) {
            _publish(id, false, listA, halves.a.locks, latestExpiry);
            if (halves.a.locks != contest.a.locks) _contests[id].locks[0] = halves.a.locks;
            contest.a = halves.a;
            newer = true;
        }
        if (halves.b.version > contest.b.version) {
            _publish(id, true, listB, halves.b.locks, latestExpiry);
            if (halves.b.locks != contest.b.locks) _contests[id].locks[1] = halves.b.locks;
            contest.b = halves.b;
            newer = true;
        }
    }

    /// @dev Whatever is accepted can be settled by anybody: the list is in an event, also if a contract made it up.
    function _publish(bytes32 id, bool sideB, bytes calldata list, bytes32 root, uint256 latestExpiry) private {
        LockList.check(list, root, latestExpiry);
        if (list.length != 0) emit LocksSubmitted(id, sideB, list);
    }

    /// @inheritdoc IChannels
    function settle(Params calldata params, bytes calldata listA, bytes calldata listB) external locked {
        bytes32 id = channelId(params);
        Contest memory contest = _read(id);
        if (contest.deadline == 0) {
            _live(id);
            revert ChannelNotClosing(id);
        }
        if (block.timestamp < contest.deadline) revert DeadlineNotPassed(contest.deadline);
        uint256 toB = LockList.won(listA, contest.a.locks, revealedAt) + contest.a.paid;
        uint256 toA = LockList.won(listB, contest.b.locks, revealedAt) + contest.b.paid;
        // Each is 2^112 and 200 amounts at the most.
        (uint256 payA, uint256 payB) = _share(_states[id], int256(toA) - int256(toB));
        _forget(_contests[id], contest);
        _bury(id);
        emit Settled(id, payA, payB);
        _payOrCredit(params.token, params.payoutA, payA);
        _payOrCredit(params.token, params.payoutB, payB);
    }

    /// @dev Splits the pot by what has moved to A; two who signed more than there is share what there is.
    function _share(State memory state, int256 moved) private pure returns (uint256 payA, uint256 payB) {
        uint256 pot = _pot(state);
        int256 balance = state.netA + moved;
        if (balance > 0) payA = uint256(balance) < pot ? uint256(balance) : pot;
        payB = pot - payA;
    }

    /// @inheritdoc IChannels
    function reveal(bytes32[] calldata preimages) external locked {
        for (uint256 i = 0; i < preimages.length; ++i) {
            bytes32 hash = sha256(abi.encode(preimages[i]));
            if (revealedAt[hash] != 0) continue;
            revealedAt[hash] = block.timestamp;
            emit Revealed(hash, preimages[i]);
        }
    }

    // ------------------------------------------------------------------------------------------------ payments

    /// @dev A caller cannot make a payment fail by sending little gas.
    function _payOrCredit(address token, address receiver, uint256 amount) private {
        if (amount == 0) return;
        if (gasleft() < GAS_TO_PAY) revert GasTooLow(GAS_TO_PAY, gasleft());
        if (Payments.send(token, receiver, amount, PAYMENT_GAS)) return;
        claimable[token][receiver] += amount;
        emit Claimable(token, receiver, amount);
    }

    /// @inheritdoc IChannels
    function claim(address token, address receiver) external locked returns (uint256 amount) {
        if (receiver == address(0)) revert ReceiverIsZero();
        return _claim(token, msg.sender, receiver);
    }

    /// @inheritdoc IChannels
    function claimFor(address token, address account) external locked returns (uint256 amount) {
        return _claim(token, account, account);
    }

    function _claim(address token, address account, address receiver) private returns (uint256 amount) {
        amount = claimable[token][account];
        if (amount == 0) revert NothingToClaim(token, account);
        claimable[token][account] = 0;
        emit Claimed(token, account, receiver, amount);
        if (!Payments.send(token, receiver, amount, gasleft())) revert PaymentFailed(token, receiver);
    }

    // ------------------------------------------------------------------------------------------------ views

    /// @inheritdoc IChannels
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        // Name, version, chain id and contract: 0b01111.
        return
            (
                hex"0f",
                ChannelDigests.NAME,
                ChannelDigests.VERSION,
                CHAIN_ID,
                address(this),
                bytes32(0),
                new uint256[](0)
            );
    }

    /// @inheritdoc IChannels
    function channelId(Params calldata params) public view returns (bytes32) {
        return ChannelDigests.channelId(DOMAIN_SEPARATOR, params);
    }

    /// @inheritdoc IChannels
    function channel(bytes32 id) external view returns (Channel memory) {
        State memory state = _states[id];
        if (state.epoch == CLOSED) return Channel(Phase.Closed, 0, 0, 0);
        Phase phase = Phase.Open;
        if (state.epoch >= CLOSING) phase = Phase.Closing;
        // slither-disable-next-line incorrect-equality
        else if (_pot(state) == 0) phase = Phase.None;
        return Channel(phase, state.epoch & ~CLOSING, state.netA, state.netB);
    }

    /// @inheritdoc IChannels
    function dispute(bytes32 id) external view returns (Dispute memory) {
        Contest memory contest = _read(id);
        return Dispute(contest.deadline, Halves(contest.a, contest.b));
    }

    /// @inheritdoc IChannels
    function snapshotDigest(bytes32 id, Halves calldata halves) external view returns (bytes32) {
        return ChannelDigests.snapshot(DOMAIN_SEPARATOR, id, halves);
    }

    /// @inheritdoc IChannels
    function coopDigest(bytes32 id, uint32 epoch, uint112 payA, uint112 payB, uint64 validUntil)
        external
        view
        returns (bytes32)
    {
        return ChannelDigests.coop(DOMAIN_SEPARATOR, id, epoch, payA, payB, validUntil);
    }

    /// @inheritdoc IChannels
    function closeDigest(bytes32 id, uint64 validUntil) external view returns (bytes32) {
        return ChannelDigests.close(DOMAIN_SEPARATOR, id, validUntil);
    }
}
// slither-disable-end timestamp
