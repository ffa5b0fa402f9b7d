// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {PoseidonT4} from "poseidon-solidity/PoseidonT4.sol";
import {PoseidonT5} from "poseidon-solidity/PoseidonT5.sol";
import {RollupTest} from "./utils/RollupTest.sol";
import {Poseidon3} from "../src/libraries/Poseidon3.sol";
import {Poseidon4} from "../src/libraries/Poseidon4.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @title The emergency: freeze, leave with a Merkle proof, take queued deposits back
contract EscapeTest is RollupTest {
    /// @dev Which Poseidon is under test does not matter here: npm's is the reference.
    function _leaf(uint24 index, uint32 token_, uint128 balance, address l1Address)
        private
        pure
        returns (IRollup.Leaf memory leaf)
    {
        leaf.index = index;
        leaf.token = token_;
        leaf.nonce = 3;
        leaf.balance = balance;
        leaf.l1Address = l1Address;
        leaf.ax = uint256(keccak256(abi.encode("ax", l1Address))) % R;
        leaf.ay = uint256(keccak256(abi.encode("ay", l1Address))) % R;
        for (uint256 level = 0; level < 12; ++level) {
            for (uint256 i = 0; i < 3; ++i) {
                leaf.siblings[level][i] = uint256(keccak256(abi.encode(index, level, i))) % R;
            }
        }
    }

    function _leafHash(IRollup.Leaf memory leaf) private pure returns (uint256) {
        uint256 owner = PoseidonT4.hash([uint256(uint160(leaf.l1Address)), leaf.ax, leaf.ay]);
        return PoseidonT4.hash([owner, leaf.token + uint256(leaf.nonce) * 2 ** 32, leaf.balance]);
    }

    function _root(IRollup.Leaf memory leaf) private pure returns (uint256 node) {
        node = _leafHash(leaf);
        uint256 position = leaf.index;
        for (uint256 level = 0; level < 12; ++level) {
            uint256[4] memory children;
            uint256 next = 0;
            for (uint256 digit = 0; digit < 4; ++digit) {
                children[digit] = digit == position % 4 ? node : leaf.siblings[level][next++];
            }
            node = PoseidonT5.hash(children);
            position /= 4;
        }
    }

    /// @dev A proven root with that leaf, money behind it, an exit request that was ignored, and the freeze.
    function _frozenWith(IRollup.Leaf memory leaf) private {
        deposit(STRANGER, 0, 100 ether);
        deposit(STRANGER, 1, 100 ether);
        IRollup.Batch memory batch = draftConsuming(0, 2, 9);
        batch.newRoot = _root(leaf);
        commitAndProve(batch);
        requestExit(ALICE, leaf.index, leaf.token);
        _freeze();
    }

    function _freeze() private {
        IRollup.Status memory s = rollup.status();
        vm.warp(requests[s.provenQueueHead].deadline + 1);
        vm.expectEmit(address(rollup));
        emit IRollup.EscapeEntered(s.provenQueueHead, s.provenRoot);
        vm.prank(STRANGER);
        rollup.enterEscape(requests[s.provenQueueHead]);
        vm.assertTrue(rollup.status().frozen);
    }

    // ------------------------------------------------------------------------------------------------ Poseidon

    function testFuzz_poseidon_is_npms(uint256 a, uint256 b, uint256 c, uint256 d) public pure {
        (a, b, c, d) = (a % R, b % R, c % R, d % R);
        vm.assertEq(Poseidon3.hash(Poseidon3.constants(), a, b, c), PoseidonT4.hash([a, b, c]));
        vm.assertEq(Poseidon4.hash(Poseidon4.constants(), a, b, c, d), PoseidonT5.hash([a, b, c, d]));
    }

    function test_poseidon_of_edges() public pure {
        uint256[4] memory edges = [uint256(0), 1, R - 1, R / 2];
        for (uint256 i = 0; i < 256; ++i) {
            (uint256 a, uint256 b, uint256 c, uint256 d) =
                (edges[i & 3], edges[(i >> 2) & 3], edges[(i >> 4) & 3], edges[i >> 6]);
            vm.assertEq(Poseidon3.hash(Poseidon3.constants(), a, b, c), PoseidonT4.hash([a, b, c]));
            vm.assertEq(Poseidon4.hash(Poseidon4.constants(), a, b, c, d), PoseidonT5.hash([a, b, c, d]));
        }
    }

    function test_the_genesis_root_is_the_empty_tree() public view {
        uint256 z = 0;
        for (uint256 i = 0; i < 12; ++i) {
            z = PoseidonT5.hash([z, z, z, z]);
        }
        vm.assertEq(rollup.status().provenRoot, z);
        vm.assertEq(rollup.status().committedRoot, z);
    }

    // ------------------------------------------------------------------------------------------------ enterEscape

    function test_enterEscape_refuses_without_an_overdue_request() public {
        IRollup.Request memory none;
        vm.expectRevert(abi.encodeWithSelector(IRollup.NoOpenRequest.selector));
        rollup.enterEscape(none);
        requestExit(ALICE, 5, 0);
        deposit(BOB, 0, 5);
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        rollup.enterEscape(requests[1]);
        vm.expectRevert(abi.encodeWithSelector(IRollup.DeadlineNotPassed.selector, requests[0].deadline));
        rollup.enterEscape(requests[0]);
        skip(7 days);
        vm.expectRevert(abi.encodeWithSelector(IRollup.DeadlineNotPassed.selector, requests[0].deadline));
        rollup.enterEscape(requests[0]);
        // An earlier deadline is another request.
        IRollup.Request memory earlier = requests[0];
        earlier.deadline -= 1;
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        rollup.enterEscape(earlier);
        skip(1);
        rollup.enterEscape(requests[0]);
    }

    function test_enterEscape_refuses_a_request_that_was_proven() public {
        requestExit(ALICE, 5, 0);
        commitAndProve(draftConsuming(0, 1, 0));
        skip(30 days);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NoOpenRequest.selector));
        rollup.enterEscape(requests[0]);
    }

    /// @dev A commit alone does not answer a request.
    function test_enterEscape_drops_unproven_batches() public {
        requestExit(ALICE, 5, 0);
        commit(draftConsuming(0, 1, 0));
        IRollup.StoredBatch memory second = commit(draft());
        skip(7 days + 1);
        vm.expectEmit(address(rollup));
        emit IRollup.BatchesDropped(1, 2);
        rollup.enterEscape(requests[0]);
        vm.assertEq(rollup.status().committedBatches, 0);
        vm.assertEq(rollup.status().committedRoot, second.number == 2 ? rollup.status().provenRoot : 0);
    }

    function test_a_frozen_rollup_takes_nothing_in() public {
        IRollup.Batch memory batch = draft();
        IRollup.StoredBatch memory stored = commit(batch);
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        requestExit(ALICE, 5, 0);
        _freeze();
        bytes[8] memory calls = [
            abi.encodeCall(IRollup.registerToken, (address(this))),
            abi.encodeCall(IRollup.deposit, (0, 1, 1)),
            abi.encodeCall(IRollup.requestExit, (1, 0, 1, 1)),
            abi.encodeCall(IRollup.commitBatch, (1, batch)),
            abi.encodeCall(IRollup.proveBatches, (batches, proofs)),
            abi.encodeCall(IRollup.commitAndProve, (1, batch, proofs[0])),
            abi.encodeCall(IRollup.revertBatches, (stored)),
            abi.encodeCall(IRollup.enterEscape, (requests[0]))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(OPERATOR, OPERATOR);
            bool payable_ = i == 1 || i == 2;
            (bool ok, bytes memory reason) = address(rollup).call{value: payable_ ? 1 ether : 0}(calls[i]);
            vm.assertFalse(ok);
            vm.assertEq(keccak256(reason), keccak256(abi.encodeWithSelector(IRollup.IsFrozen.selector)));
        }
    }

    /// @dev What was proven before stays payable for ever.
    function test_a_frozen_rollup_pays_what_it_owes() public {
        deposit(STRANGER, 0, 100 ether);
        IRollup.Batch memory batch = draftConsuming(0, 1, 9);
        batch.rows = bytes.concat(row(7, 0, 0, 0), row(0, 0, 0, 0));
        batch.extras = withdrawal(0, address(0xCAFE), 0, 5 ether);
        commitAndProve(batch);
        requestExit(ALICE, 5, 0);
        _freeze();
        skip(1000 days);
        pay(1, payoutsOf(batch), 0, 1);
        vm.assertEq(address(0xCAFE).balance, 5 ether);
        rollup.claim(0, BENEFICIARY);
        vm.assertEq(BENEFICIARY.balance, FEE / 2);
    }

    // ------------------------------------------------------------------------------------------------ escapeExit

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_escapeExit_pays_a_leaf_once(uint24 index, bool ofToken, uint128 balance) public {
        balance = uint128(bound(balance, 1, 100 ether));
        IRollup.Leaf memory leaf =
            _leaf(uint24(bound(index, 1, 2 ** 24 - 1)), ofToken ? 1 : 0, balance, address(0xCAFE));
        _frozenWith(leaf);
        vm.assertFalse(rollup.hasExited(leaf.index));
        vm.expectEmit(address(rollup));
        emit IRollup.EscapeExited(leaf.index, address(0xCAFE), leaf.token, balance);
        vm.prank(STRANGER);
        rollup.escapeExit(leaf);
        vm.assertEq(ofToken ? token.balanceOf(address(0xCAFE)) : address(0xCAFE).balance, balance);
        vm.assertTrue(rollup.hasExited(leaf.index));
        vm.assertEq(rollup.outstanding(leaf.token), 100 ether - balance);
        vm.expectRevert(abi.encodeWithSelector(IRollup.LeafAlreadyExited.selector, leaf.index));
        rollup.escapeExit(leaf);
    }

    /// @dev Leaves share words of the bitmap of exits: one exit must not forget another.
    function test_escapeExit_pays_neighbours_once_each() public {
        IRollup.Leaf memory a = _leaf(4, 0, 5 ether, address(0xCAFE));
        IRollup.Leaf memory b = _leaf(5, 1, 6 ether, address(0xBEEF));
        for (uint256 level = 1; level < 12; ++level) {
            b.siblings[level] = a.siblings[level];
        }
        a.siblings[0] = [_leafHash(b), 71, 72];
        b.siblings[0] = [_leafHash(a), 71, 72];
        _frozenWith(a);
        rollup.escapeExit(a);
        rollup.escapeExit(b);
        vm.assertEq(address(0xCAFE).balance, 5 ether);
        vm.assertEq(token.balanceOf(address(0xBEEF)), 6 ether);
        vm.expectRevert(abi.encodeWithSelector(IRollup.LeafAlreadyExited.selector, 4));
        rollup.escapeExit(a);
        vm.expectRevert(abi.encodeWithSelector(IRollup.LeafAlreadyExited.selector, 5));
        rollup.escapeExit(b);
    }

    function test_gas_of_escapeExit() public {
        IRollup.Leaf memory leaf = _leaf(0x123456, 0, 5 ether, address(0xCAFE));
        _frozenWith(leaf);
        rollup.escapeExit(leaf);
        vm.snapshotGasLastCall("Escape", "escapeExit: ETH to a new account");
    }

    /// @dev *Path digits are index digits*: no other index opens the leaf, so it exits once.
    function test_escapeExit_refuses_the_leaf_at_another_index() public {
        IRollup.Leaf memory leaf = _leaf(0x123456, 0, 5 ether, address(0xCAFE));
        _frozenWith(leaf);
        for (uint256 bit = 0; bit < 24; ++bit) {
            IRollup.Leaf memory other = abi.decode(abi.encode(leaf), (IRollup.Leaf));
            other.index ^= uint24(1 << bit);
            vm.expectRevert(abi.encodeWithSelector(IRollup.LeafMismatch.selector, _root(leaf), _root(other)));
            rollup.escapeExit(other);
        }
        rollup.escapeExit(leaf);
    }

    function test_escapeExit_refuses_an_altered_leaf() public {
        IRollup.Leaf memory leaf = _leaf(0x123456, 0, 5 ether, address(0xCAFE));
        _frozenWith(leaf);
        for (uint256 i = 0; i < 8; ++i) {
            IRollup.Leaf memory bad = abi.decode(abi.encode(leaf), (IRollup.Leaf));
            if (i == 0) bad.token = 1;
            if (i == 1) bad.nonce += 1;
            if (i == 2) bad.balance += 1;
            if (i == 3) bad.l1Address = STRANGER;
            if (i == 4) bad.ax = addmod(bad.ax, 1, R);
            if (i == 5) bad.ay = addmod(bad.ay, 1, R);
            if (i == 6) bad.siblings[0][0] = addmod(bad.siblings[0][0], 1, R);
            if (i == 7) bad.siblings[11][2] = addmod(bad.siblings[11][2], 1, R);
            vm.expectRevert(abi.encodeWithSelector(IRollup.LeafMismatch.selector, _root(leaf), _root(bad)));
            rollup.escapeExit(bad);
        }
    }

    /// @dev Words alias at x + r; typed fields cannot carry into each other.
    function test_escapeExit_refuses_words_from_r_on() public {
        IRollup.Leaf memory leaf = _leaf(0x123456, 0, 5 ether, address(0xCAFE));
        _frozenWith(leaf);
        for (uint256 i = 0; i < 38; ++i) {
            IRollup.Leaf memory bad = abi.decode(abi.encode(leaf), (IRollup.Leaf));
            uint256 word;
            if (i == 0) word = bad.ax += R;
            else if (i == 1) word = bad.ay += R;
            else word = bad.siblings[(i - 2) / 3][(i - 2) % 3] += R;
            vm.expectRevert(abi.encodeWithSelector(IRollup.WordOutOfRange.selector, word));
            rollup.escapeExit(bad);
        }
        // balance + 2^128 does not fit its type: the decoder refuses.
        bytes memory input = abi.encodeCall(IRollup.escapeExit, (leaf));
        input[4 + 32 * 3 + 15] = 0x01;
        (bool ok,) = address(rollup).call(input);
        vm.assertFalse(ok);
    }

    function test_escapeExit_refuses_before_the_freeze_and_empty_leaves() public {
        IRollup.Leaf memory leaf = _leaf(5, 0, 1, ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotFrozen.selector));
        rollup.escapeExit(leaf);
        _frozenWith(leaf);
        leaf.balance = 0;
        vm.expectRevert(abi.encodeWithSelector(IRollup.AmountIsZero.selector));
        rollup.escapeExit(leaf);
    }

    function test_escapeExit_of_a_receiver_that_refuses_becomes_claimable() public {
        IRollup.Leaf memory leaf = _leaf(5, 0, 7, address(token)); // a contract that takes no ETH
        _frozenWith(leaf);
        rollup.escapeExit(leaf);
        vm.assertEq(rollup.claimable(0, address(token)), 7);
    }

    // ------------------------------------------------------------------------------------------------ cancelDeposit

    function test_cancelDeposit_gives_unproven_deposits_back() public {
        deposit(ALICE, 0, 5 ether);
        deposit(ALICE, 1, 6);
        deposit(BOB, 0, 7 ether);
        requestExit(BOB, 5, 0);
        commitAndProve(draftConsuming(0, 1, 9));
        commit(draftConsuming(1, 1, 9)); // committed is not proven
        _freeze();
        (uint256 alice, uint256 bob) = (token.balanceOf(ALICE), BOB.balance);
        vm.expectEmit(address(rollup));
        emit IRollup.DepositCancelled(1, ALICE, 1, 6);
        vm.prank(STRANGER);
        rollup.cancelDeposit(1, requests[1]);
        rollup.cancelDeposit(2, requests[2]);
        vm.assertEq(token.balanceOf(ALICE) - alice, 6);
        vm.assertEq(BOB.balance - bob, 7 ether);
        vm.assertEq(rollup.outstanding(0), 5 ether);
        vm.assertEq(rollup.outstanding(1), 0);
        // Once; not a proven one; not an exit; nothing altered; nothing made up.
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 1));
        rollup.cancelDeposit(1, requests[1]);
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestAlreadyProven.selector, 0));
        rollup.cancelDeposit(0, requests[0]);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotADeposit.selector, 3));
        rollup.cancelDeposit(3, requests[3]);
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 4));
        rollup.cancelDeposit(4, requests[3]);
    }

    function test_cancelDeposit_refuses_before_the_freeze() public {
        deposit(ALICE, 0, 5 ether);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotFrozen.selector));
        rollup.cancelDeposit(0, requests[0]);
    }

    function test_cancelDeposit_refuses_an_altered_request() public {
        deposit(ALICE, 0, 5 ether);
        _freeze();
        IRollup.Request memory bad = requests[0];
        bad.amount += 1;
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        rollup.cancelDeposit(0, bad);
        bad = requests[0];
        bad.sender = STRANGER;
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestMismatch.selector, 0));
        rollup.cancelDeposit(0, bad);
    }
}
