// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Reference} from "./utils/Reference.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";
import {Test} from "./utils/Test.sol";

/// @dev Takes ETH or not, as told.
contract Fickle {
    bool public refuses;

    function turn() external {
        refuses = !refuses;
    }

    receive() external payable {
        require(!refuses, "no");
    }
}

/// @title Users, operator, strangers and time, at random, beside a ledger of what is whose
/// @notice The proofs are true of the statements, and the ledger plays the circuit: a batch pays no more than is inside.
contract Handler is RollupTest {
    struct Waiting {
        IRollup.StoredBatch stored;
        bytes payouts;
        uint256[2] entering;
        uint256[2] leaving;
    }

    struct Paying {
        uint64 number;
        bytes payouts;
        uint256 paid;
    }

    Fickle public fickle;

    // What proven batches left inside; what users put in and got out again; fees that are nobody's.
    uint256[2] public inside;
    uint256[2] public deposited;
    uint256[2] public left;
    uint256 public burnt;
    bool public doublePaid;
    bool public outOfOrder;
    uint256 public calls;

    Waiting[] private waiting;
    Paying[] private paying;
    mapping(uint64 => bool) private cancelled;
    IRollup.Status private last;

    constructor() {
        setUp();
        fickle = new Fickle();
        last = rollup.status();
    }

    function theRollup() external view returns (IRollup) {
        return rollup;
    }

    function held(uint32 token_) external view returns (uint256) {
        return token_ == 0 ? address(rollup).balance : token.balanceOf(address(rollup));
    }

    function claimableOf(uint32 token_) external view returns (uint256 sum) {
        address[4] memory all = _receivers();
        for (uint256 i = 0; i < 4; ++i) {
            sum += rollup.claimable(token_, all[i]);
        }
        sum += rollup.claimable(token_, BENEFICIARY);
    }

    function _receivers() private view returns (address[4] memory) {
        return [ALICE, BOB, address(fickle), address(0xCAFE)];
    }

    /// @dev After each step: counters only grow, but for commits that drop; freezing is for ever.
    modifier step() {
        _;
        ++calls;
        IRollup.Status memory s = rollup.status();
        bool ordered = s.provenBatches >= last.provenBatches && s.provenQueueHead >= last.provenQueueHead
            && s.queueTail >= last.queueTail && s.provenTimestamp >= last.provenTimestamp
            && s.provenBatches <= s.committedBatches && s.provenQueueHead <= s.committedQueueHead
            && s.committedQueueHead <= s.queueTail && (s.frozen || !last.frozen)
            && (s.provenBatches != last.provenBatches || s.provenRoot == last.provenRoot);
        if (!ordered) outOfOrder = true;
        last = s;
    }

    // ------------------------------------------------------------------------------------------------ users

    function depositSome(uint256 seed) external step {
        if (last.frozen) return;
        uint32 token_ = uint32(seed % 2);
        uint128 amount = uint128(bound(seed >> 8, 1, 1e18));
        uint256 fee = rollup.requestFee();
        deposit(seed & 2 == 0 ? ALICE : BOB, token_, amount);
        deposited[token_] += amount;
        burnt += fee - fee / 2;
    }

    function requestAnExit(uint256 seed) external step {
        if (last.frozen) return;
        uint256 fee = rollup.requestFee();
        requestExit(seed & 2 == 0 ? ALICE : BOB, uint24(bound(seed >> 8, 1, 2 ** 24 - 1)), uint32(seed % 2));
        burnt += fee - fee / 2;
    }

    function turnFickle() external step {
        fickle.turn();
    }

    function passTime(uint256 seed) external step {
        // Mostly minutes, sometimes what it takes to be overdue.
        skip(bound(seed >> 8, 1, seed % 8 == 0 ? 20 hours : 10 minutes));
    }

    function passDays(uint256 seed) external step {
        if (seed % 16 == 0) skip(bound(seed >> 8, 1, 8 days));
    }

    // ------------------------------------------------------------------------------------------------ batches

    function commitOne(uint256 seed) external step {
        if (last.frozen || rollup.isOpenPhase() || waiting.length > 8) return;
        uint256 queued = last.queueTail - last.committedQueueHead;
        Waiting memory w = _draft(seed, last.committedQueueHead, bound(seed, 0, queued < 4 ? queued : 4));
        w.stored = commit(_batch);
        _push(w);
    }

    function proveSome(uint256 seed) external step {
        if (last.frozen || waiting.length == 0) return;
        uint256 count = bound(seed, 1, waiting.length < 3 ? waiting.length : 3);
        IRollup.StoredBatch[] memory batches = new IRollup.StoredBatch[](count);
        IRollup.Proof[] memory proofs = new IRollup.Proof[](count);
        for (uint256 i = 0; i < count; ++i) {
            batches[i] = waiting[i].stored;
            proofs[i] = proofOf(batches[i]);
        }
        rollup.proveBatches(batches, proofs);
        for (uint256 i = 0; i < count; ++i) {
            _settle(waiting[i]);
        }
        _forget(count);
    }

    function commitAndProveOne(uint256 seed) external step {
        if (last.frozen) return;
        bool open = rollup.isOpenPhase();
        if (!open && waiting.length != 0) return;
        if (open) delete waiting;
        uint256 queued = last.queueTail - last.provenQueueHead;
        uint256 most = queued < 4 ? queued : 4;
        Waiting memory w = _draft(seed, last.provenQueueHead, open ? most : bound(seed, 0, most));
        w.stored = statement(_batch, last.provenBatches + 1, last.provenRoot, last.provenQueueHead);
        IRollup.Proof memory proof = proofOf(w.stored);
        address sender = open ? STRANGER : OPERATOR;
        vm.prank(sender, sender);
        rollup.commitAndProve(w.stored.number, _batch, proof);
        _settle(w);
    }

    function revertAll() external step {
        if (last.frozen || waiting.length == 0 || now_() <= waiting[0].stored.committedAt + 6 hours) return;
        rollup.revertBatches(waiting[0].stored);
        delete waiting;
    }

    IRollup.Batch private _batch;

    /// @dev Writes `_batch`: requests, each with some result, and up to two withdrawals, no more than there is.
    function _draft(uint256 seed, uint64 head, uint256 count) private returns (Waiting memory w) {
        uint256[2] memory available = inside;
        for (uint256 i = 0; i < waiting.length; ++i) {
            for (uint256 t = 0; t < 2; ++t) {
                available[t] = available[t] + waiting[i].entering[t] - waiting[i].leaving[t];
            }
        }
        IRollup.Batch memory batch = draftConsuming(head, count, 0);
        for (uint256 j = 0; j < count; ++j) {
            uint256 word = uint256(keccak256(abi.encode(seed, j)));
            batch.l1Rows[j].result = _result(batch.l1Rows[j].request, word, available, w);
        }
        for (uint16 i = 0; i < 2; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, "row", i)));
            uint32 token_ = uint32(word % 2);
            uint256 amount = word & 12 == 0 ? 0 : bound(word >> 8, 0, available[token_]);
            available[token_] -= amount;
            w.leaving[token_] += amount;
            batch.rows = bytes.concat(batch.rows, row(i + 1, 0, 0, 0));
            address receiver = _receivers()[(word >> 4) % 4];
            batch.extras = bytes.concat(batch.extras, withdrawal(i, receiver, token_, uint128(amount)));
        }
        w.payouts = payoutsOf(batch);
        _batch = batch;
    }

    function _result(IRollup.Request memory q, uint256 word, uint256[2] memory available, Waiting memory w)
        private
        pure
        returns (uint128)
    {
        uint32 t = q.token;
        if (q.kind == 1) {
            w.entering[t] += q.amount;
            if (word & 1 == 0) {
                w.leaving[t] += q.amount; // refused: it goes back
                return 0;
            }
            available[t] += q.amount;
            return uint128(bound(word >> 8, 1, 2 ** 24 - 1));
        }
        uint256 amount = word & 1 == 0 ? 0 : bound(word >> 8, 0, available[t]);
        available[t] -= amount;
        w.leaving[t] += amount;
        return uint128(amount);
    }

    function _push(Waiting memory w) private {
        Waiting storage place = waiting.push();
        place.stored = w.stored;
        place.payouts = w.payouts;
        place.entering = w.entering;
        place.leaving = w.leaving;
    }

    function _settle(Waiting memory w) private {
        for (uint256 t = 0; t < 2; ++t) {
            inside[t] = inside[t] + w.entering[t] - w.leaving[t];
        }
        if (w.payouts.length != 0) paying.push(Paying(w.stored.number, w.payouts, 0));
    }

    function _forget(uint256 count) private {
        for (uint256 i = count; i < waiting.length; ++i) {
            waiting[i - count] = waiting[i];
        }
        for (uint256 i = 0; i < count; ++i) {
            waiting.pop();
        }
    }

    // ------------------------------------------------------------------------------------------------ out

    function paySome(uint256 seed) external step {
        if (paying.length == 0) return;
        Paying storage p = paying[seed % paying.length];
        uint256 count = p.payouts.length / 40;
        uint256 mask = (seed >> 8) | 1;
        uint256 fresh = mask & ~p.paid & ((1 << count) - 1);
        uint256[2] memory before = [rollup.outstanding(0), rollup.outstanding(1)];
        bytes32[] memory hashes = Reference.chunkHashes(p.payouts);
        if (fresh == 0) {
            try rollup.payWithdrawals(p.number, hashes, 0, p.payouts, mask) {
                doublePaid = true;
            } catch {}
            return;
        }
        rollup.payWithdrawals(p.number, hashes, 0, p.payouts, mask);
        p.paid |= fresh;
        for (uint256 i = 0; i < count; ++i) {
            if ((fresh >> i) & 1 == 0) continue;
            uint256 t = Reference.number24(p.payouts, 40 * i + 20, 4);
            uint256 amount = Reference.number24(p.payouts, 40 * i + 24, 16);
            left[t] += amount;
            before[t] -= amount;
        }
        if (before[0] != rollup.outstanding(0) || before[1] != rollup.outstanding(1)) doublePaid = true;
    }

    function claimSome(uint256 seed) external step {
        address account = seed % 5 == 4 ? BENEFICIARY : _receivers()[seed % 5];
        uint32 token_ = uint32((seed >> 8) % 2);
        if (rollup.claimable(token_, account) == 0 || (account == address(fickle) && fickle.refuses())) return;
        rollup.claim(token_, account);
        if (rollup.claimable(token_, account) != 0) doublePaid = true;
    }

    // ------------------------------------------------------------------------------------------------ escape

    function freeze() external step {
        if (last.frozen || last.provenQueueHead == last.queueTail) return;
        if (now_() <= requests[last.provenQueueHead].deadline) return;
        rollup.enterEscape(requests[last.provenQueueHead]);
        delete waiting;
    }

    function cancelSome(uint256 seed) external step {
        uint256 open = last.queueTail - last.provenQueueHead;
        if (!last.frozen || open == 0) return;
        _cancel(last.provenQueueHead + uint64(seed % open));
    }

    function _cancel(uint64 id) private {
        IRollup.Request memory q = requests[id];
        if (q.kind != 1) return;
        try rollup.cancelDeposit(id, q) {
            if (cancelled[id]) doublePaid = true;
            left[q.token] += q.amount;
        } catch {
            if (!cancelled[id]) outOfOrder = true;
        }
        cancelled[id] = true;
    }

    /// @dev Whatever happened so far: users freeze the rollup if it ignores them, get their deposits back, and what was
    ///      proven is paid.
    function everyoneLeaves() external returns (bool) {
        if (!last.frozen) {
            if (last.provenQueueHead == last.queueTail) requestExit(ALICE, 5, 0);
            uint64 deadline = requests[last.provenQueueHead].deadline;
            if (now_() <= deadline) vm.warp(deadline + 1);
            rollup.enterEscape(requests[last.provenQueueHead]);
        }
        for (uint64 id = last.provenQueueHead; id < requests.length; ++id) {
            if (!cancelled[id]) _cancel(id);
        }
        for (uint256 i = 0; i < paying.length; ++i) {
            Paying storage p = paying[i];
            uint256 all = (1 << (p.payouts.length / 40)) - 1;
            if (p.paid == all) continue;
            rollup.payWithdrawals(p.number, Reference.chunkHashes(p.payouts), 0, p.payouts, all);
        }
        // What is left is what the leaves of the last proven state hold, for escapeExit.
        return !outOfOrder && !doublePaid && rollup.outstanding(0) == inside[0] && rollup.outstanding(1) == inside[1];
    }
}

contract InvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private handler;
    IRollup private rollup;

    function setUp() public {
        handler = new Handler();
        rollup = handler.theRollup();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](13);
        selectors[0] = Handler.depositSome.selector;
        selectors[1] = Handler.requestAnExit.selector;
        selectors[2] = Handler.commitOne.selector;
        selectors[3] = Handler.proveSome.selector;
        selectors[4] = Handler.commitAndProveOne.selector;
        selectors[5] = Handler.revertAll.selector;
        selectors[6] = Handler.paySome.selector;
        selectors[7] = Handler.claimSome.selector;
        selectors[8] = Handler.passTime.selector;
        selectors[9] = Handler.passDays.selector;
        selectors[10] = Handler.turnFickle.selector;
        selectors[11] = Handler.freeze.selector;
        selectors[12] = Handler.cancelSome.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @dev One campaign checks them all after each call.
    function invariant_books_and_order() public view {
        _solvent();
        _outstandingIsWhatCameInAndDidNotLeave();
        vm.assertFalse(handler.doublePaid());
        vm.assertFalse(handler.outOfOrder());
    }

    /// @dev To the wei: what the rollup holds is what it owes, and for ETH the fees that are nobody's.
    function _solvent() private view {
        vm.assertEq(handler.held(1), rollup.outstanding(1) + handler.claimableOf(1));
        uint256 owed = rollup.outstanding(0) + handler.claimableOf(0) + rollup.feePot();
        vm.assertEq(handler.held(0), owed + handler.burnt());
    }

    function _outstandingIsWhatCameInAndDidNotLeave() private view {
        for (uint32 t = 0; t < 2; ++t) {
            vm.assertEq(rollup.outstanding(t), handler.deposited(t) - handler.left(t));
        }
    }

    function invariant_everyone_can_leave() public {
        uint256 snapshot = vm.snapshotState();
        vm.assertTrue(handler.everyoneLeaves(), "everyone leaves");
        vm.revertToState(snapshot);
    }
}
