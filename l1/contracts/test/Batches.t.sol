// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Reference} from "./utils/Reference.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @dev Writes storage: to reach states that no transaction reaches in a test's time.
interface VmStore {
    function store(address target, bytes32 slot, bytes32 value) external;
}

contract Forwarder {
    function forward(address target, bytes calldata data) external {
        (bool ok, bytes memory reason) = target.call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }
}

/// @title Commit, proof and revert of batches outside the open phase
contract BatchesTest is RollupTest {
    function _refuseCommit(address sender, uint64 number, bytes memory reason) private {
        IRollup.Batch memory batch = draft();
        vm.expectRevert(reason);
        vm.prank(sender, sender);
        rollup.commitBatch(number, batch);
    }

    function _refuseProof(IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs, bytes memory reason)
        private
    {
        IRollup.Status memory before = rollup.status();
        vm.expectRevert(reason);
        rollup.proveBatches(batches, proofs);
        vm.assertEq(keccak256(abi.encode(rollup.status())), keccak256(abi.encode(before)));
    }

    function _three() private returns (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) {
        batches = new IRollup.StoredBatch[](3);
        proofs = new IRollup.Proof[](3);
        for (uint256 i = 0; i < 3; ++i) {
            batches[i] = commit(draft());
            proofs[i] = proofOf(batches[i]);
        }
    }

    function _false() private pure returns (bytes memory) {
        return abi.encodeWithSelector(IRollup.ProofIsFalse.selector);
    }

    // ------------------------------------------------------------------------------------------------ commitBatch

    function test_commitBatch_builds_on_the_last_committed_batch() public {
        IRollup.StoredBatch memory first = commit(draft());
        IRollup.StoredBatch memory second = commit(draft());
        vm.assertEq(second.oldRoot, first.newRoot);
        vm.assertEq(rollup.status().committedRoot, second.newRoot);
        vm.assertEq(rollup.status().provenRoot, first.oldRoot);
        vm.assertEq(rollup.status().committedBatches, 2);
    }

    function test_commitBatch_emits_the_hash_of_its_data() public {
        IRollup.Batch memory batch = draft();
        batch.rows = bytes.concat(row(1, 2, 3, 4), row(1, 0, 0, 0));
        batch.extras = withdrawal(1, ALICE, 0, 5);
        bytes32 dataHash = Reference.parse(batch, sizes(SMALL), 1, 0, 0).dataHash;
        vm.expectEmit(address(rollup));
        emit IRollup.BatchCommitted(1, SMALL, batch.newRoot, dataHash);
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitBatch(1, batch);
    }

    function test_commitBatch_refuses_others_than_the_operator() public {
        _refuseCommit(STRANGER, 1, abi.encodeWithSelector(IRollup.NotOperator.selector, STRANGER));
    }

    /// @dev Followers read the transaction's own input: no contract may stand between, nor code at the sender.
    function test_commitBatch_refuses_contracts() public {
        Forwarder forwarder = new Forwarder();
        bytes memory input = abi.encodeCall(IRollup.commitBatch, (1, draft()));
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotPlainAccount.selector, address(forwarder)));
        vm.prank(OPERATOR, OPERATOR);
        forwarder.forward(address(rollup), input);
        IRollup.Batch memory batch = draft();
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotPlainAccount.selector, OPERATOR));
        vm.prank(OPERATOR, STRANGER);
        rollup.commitBatch(1, batch);
        vm.etch(OPERATOR, hex"ef01000000000000000000000000000000000000000001");
        _refuseCommit(OPERATOR, 1, abi.encodeWithSelector(IRollup.NotPlainAccount.selector, OPERATOR));
    }

    /// @dev A commit that a reorg made stale is not taken for another batch.
    function test_commitBatch_refuses_a_wrong_number() public {
        _refuseCommit(OPERATOR, 0, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 1, 0));
        _refuseCommit(OPERATOR, 2, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 1, 2));
        commit(draft());
        _refuseCommit(OPERATOR, 1, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 2, 1));
        uint64 max = type(uint64).max;
        _refuseCommit(OPERATOR, max, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 2, max));
    }

    function test_commitBatch_refuses_to_overrun_the_ring_of_unproven_batches() public {
        IRollup.StoredBatch memory first = commit(draft());
        IRollup.Batch memory batch = draft();
        vm.startPrank(OPERATOR, OPERATOR);
        for (uint64 number = 2; number <= 1024; ++number) {
            batch.commitment = number;
            rollup.commitBatch(number, batch);
        }
        vm.expectRevert(abi.encodeWithSelector(IRollup.TooManyUnprovenBatches.selector, 1024));
        rollup.commitBatch(1025, batch);
        vm.stopPrank();
        prove(first);
        commit(draft());
        vm.assertTrue(rollup.batchHash(2) != 0);
        vm.assertEq(rollup.batchHash(1026), 0);
    }

    // ------------------------------------------------------------------------------------------------ proveBatches

    function test_proveBatches_moves_the_root() public {
        IRollup.StoredBatch memory stored = commit(draft());
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        vm.expectEmit(address(rollup));
        emit IRollup.BatchProven(1, stored.newRoot, 0, 0);
        vm.prank(STRANGER);
        rollup.proveBatches(batches, proofs);
        vm.assertEq(rollup.status().provenRoot, stored.newRoot);
        vm.assertEq(rollup.status().provenBatches, 1);
        vm.assertEq(rollup.status().provenTimestamp, stored.timestamp);
        vm.assertEq(rollup.batchHash(1), 0);
    }

    function test_proveBatches_proves_several_at_once() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        IRollup.StoredBatch memory fourth = commit(draft());
        rollup.proveBatches(batches, proofs);
        vm.assertEq(rollup.status().provenBatches, 3);
        vm.assertEq(rollup.status().provenRoot, batches[2].newRoot);
        prove(fourth);
        vm.assertEq(rollup.status().provenRoot, fourth.newRoot);
    }

    function test_proveBatches_refuses_no_batches_and_unequal_counts() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        vm.expectRevert(abi.encodeWithSelector(IRollup.NoBatches.selector));
        rollup.proveBatches(new IRollup.StoredBatch[](0), proofs);
        _refuseProof(batches, new IRollup.Proof[](2), abi.encodeWithSelector(IRollup.ProofCount.selector, 3, 2));
    }

    function test_proveBatches_refuses_to_leave_a_gap() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        (batches[0], batches[1]) = (batches[1], batches[0]);
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 1, 2));
        (batches[0], batches[1]) = (batches[1], batches[1]);
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 2, 1));
    }

    /// @dev Every field is part of what was committed.
    function test_proveBatches_refuses_an_altered_batch() public {
        IRollup.StoredBatch memory good = commit(draft());
        for (uint256 i = 1; i < 12; ++i) {
            bytes memory words = abi.encode(good);
            assembly ("memory-safe") {
                let word := add(add(words, 32), mul(32, i))
                mstore(word, xor(mload(word), 1))
            }
            IRollup.StoredBatch memory bad = abi.decode(words, (IRollup.StoredBatch));
            (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(bad);
            _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.StoredBatchMismatch.selector, 1));
        }
        prove(good);
    }

    function test_proveBatches_refuses_what_was_not_committed() public {
        IRollup.StoredBatch memory never = expected(draft());
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(never);
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.StoredBatchMismatch.selector, 1));
    }

    /// @dev No transaction reaches this; were the proven root another, nothing on top of it could be proven.
    function test_proveBatches_refuses_a_batch_on_another_root() public {
        IRollup.StoredBatch memory stored = commit(draft());
        // The proven root's slot is the second: progress, proven root.
        vm.assertEq(vm.load(address(rollup), bytes32(uint256(1))), bytes32(stored.oldRoot));
        VmStore(address(vm)).store(address(rollup), bytes32(uint256(1)), bytes32(uint256(5)));
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        bytes memory reason = abi.encodeWithSelector(IRollup.RootMismatch.selector, 1, 5, stored.oldRoot);
        vm.expectRevert(reason);
        rollup.proveBatches(batches, proofs);
    }

    function test_proveBatches_refuses_several_circuits_at_once() public {
        IRollup.StoredBatch[] memory batches = new IRollup.StoredBatch[](2);
        IRollup.Proof[] memory proofs = new IRollup.Proof[](2);
        batches[0] = commit(draft());
        IRollup.Batch memory large = draft();
        large.circuitId = LARGE;
        batches[1] = commit(large);
        (proofs[0], proofs[1]) = (proofOf(batches[0]), proofOf(batches[1]));
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.CircuitsMixed.selector, SMALL, LARGE));
        prove(batches[0]);
        prove(batches[1]);
    }

    function test_proveBatches_refuses_false_proofs() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        (proofs[0], proofs[1]) = (proofs[1], proofs[0]);
        _refuseProof(batches, proofs, _false());
        (proofs[0], proofs[1]) = (proofs[1], proofs[0]);
        proofs[2] = Reference.prove(batches[2].commitment, batches[2].z, addmod(batches[2].y, 1, R), 0);
        _refuseProof(batches, proofs, _false());
        proofs[2].a[0] += Reference.Q;
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.CoordinateOutOfRange.selector, proofs[2].a[0]));
    }

    /// @dev Two false proofs whose errors cancel when both have the same weight.
    function test_proveBatches_refuses_errors_that_cancel_across_a_pair() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        uint256[2] memory e = Reference.multiply([uint256(1), 2], 31337);
        proofs[0].c = Reference.add(proofs[0].c, e);
        proofs[1].c = Reference.add(proofs[1].c, [e[0], Reference.Q - e[1]]);
        _refuseProof(batches, proofs, _false());
    }

    /// @dev Errors made for the weights of other proofs: the weights depend on the proofs themselves.
    function test_proveBatches_refuses_errors_made_for_the_weights_of_the_honest_proofs() public {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = _three();
        bytes32[] memory hashes = new bytes32[](3);
        for (uint256 i = 0; i < 3; ++i) {
            hashes[i] = keccak256(abi.encode(batches[i]));
        }
        uint256 weight = uint128(uint256(keccak256(abi.encode(keccak256(abi.encode(hashes, proofs)), 1))));
        proofs[0].c = Reference.add(proofs[0].c, Reference.multiply([uint256(1), 2], weight));
        proofs[1].c = Reference.add(proofs[1].c, [uint256(1), Reference.Q - 2]);
        _refuseProof(batches, proofs, _false());
    }

    /// @dev Proofs can be re-randomised: another proof of the same batch has no second effect.
    function test_proveBatches_has_no_second_effect_for_another_proof() public {
        IRollup.StoredBatch memory stored = commit(draftPaying(ALICE, 0, 0));
        prove(stored);
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        proofs[0] = Reference.prove(stored.commitment, stored.z, stored.y, 99);
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 2, 1));
    }

    /// @dev The same batch on another deployment, or the same deployment on another chain, is another statement.
    function test_a_proof_holds_for_one_deployment_on_one_chain() public {
        IRollup.Batch memory batch = draft();
        IRollup.StoredBatch memory here = expected(batch);
        IRollup.Proof memory proof = proofOf(here);
        IRollup original = rollup;
        rollup = deploy(config());
        vm.expectRevert(_false());
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(1, batch, proof);
        rollup = original;
        vm.chainId(31338);
        vm.expectRevert(_false());
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(1, batch, proof);
        vm.chainId(31337);
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(1, batch, proof);
    }

    // ------------------------------------------------------------------------------------------------ commitAndProve

    function test_commitAndProve_does_both() public {
        IRollup.StoredBatch memory stored = commitAndProve(draft());
        IRollup.Status memory s = rollup.status();
        vm.assertEq(s.provenBatches, 1);
        vm.assertEq(s.committedBatches, 1);
        vm.assertEq(s.provenRoot, stored.newRoot);
        vm.assertEq(s.committedRoot, stored.newRoot);
        vm.assertEq(s.committedTimestamp, stored.timestamp);
        vm.assertEq(commit(draft()).oldRoot, stored.newRoot);
    }

    function test_commitAndProve_refuses_while_batches_wait_for_proofs() public {
        commit(draft());
        commit(draft());
        IRollup.Batch memory batch = draft();
        IRollup.Proof memory proof;
        vm.expectRevert(abi.encodeWithSelector(IRollup.UnprovenBatches.selector, 0, 2));
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(3, batch, proof);
    }

    function test_commitAndProve_refuses_others_contracts_and_wrong_numbers() public {
        IRollup.Batch memory batch = draft();
        IRollup.Proof memory proof = proofOf(expected(batch));
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotOperator.selector, STRANGER));
        vm.prank(STRANGER, STRANGER);
        rollup.commitAndProve(1, batch, proof);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotPlainAccount.selector, OPERATOR));
        vm.prank(OPERATOR, STRANGER);
        rollup.commitAndProve(1, batch, proof);
        vm.expectRevert(abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 1, 2));
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(2, batch, proof);
    }

    /// @dev Everything posted is bound by the proof, the beneficiary too: nobody can take another's proof and fees.
    function test_commitAndProve_binds_every_posted_field() public {
        deposit(ALICE, 0, 1 ether);
        IRollup.Batch memory batch = draftConsuming(0, 1, 9);
        batch.rows = bytes.concat(row(1, 2, 3, 4), row(1, 0, 0, 0));
        batch.extras = withdrawal(1, ALICE, 0, 5);
        IRollup.Proof memory proof = proofOf(expected(batch));
        for (uint256 i = 0; i < 10; ++i) {
            IRollup.Batch memory bad = abi.decode(abi.encode(batch), (IRollup.Batch));
            if (i == 0) bad.circuitId = LARGE;
            if (i == 1) bad.timestamp -= 1;
            if (i == 2) bad.newRoot = addmod(bad.newRoot, 1, R);
            if (i == 3) bad.feeLeaves += 1;
            if (i == 4) bad.commitment = addmod(bad.commitment, 1, R);
            if (i == 5) bad.beneficiary = STRANGER;
            if (i == 6) bad.l1Rows[0].result = 10;
            if (i == 7) bad.rows[11] = 0x05;
            if (i == 8) bad.extras[41] = 0x06;
            if (i == 9) bad.l1Rows = new IRollup.L1Row[](0);
            vm.expectRevert(_false());
            vm.prank(OPERATOR, OPERATOR);
            rollup.commitAndProve(1, bad, proof);
        }
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(1, batch, proof);
    }

    // ------------------------------------------------------------------------------------------------ revertBatches

    function test_revertBatches_drops_batches_whose_proof_is_overdue() public {
        deposit(ALICE, 0, 1 ether);
        IRollup.StoredBatch memory proven = commitAndProve(draft());
        IRollup.StoredBatch memory first = commit(draftConsuming(0, 1, 5));
        skip(1 hours);
        commit(draft());
        skip(5 hours);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ProofNotOverdue.selector, now_()));
        rollup.revertBatches(first);
        skip(1);
        vm.expectEmit(address(rollup));
        emit IRollup.BatchesDropped(2, 3);
        vm.prank(STRANGER);
        rollup.revertBatches(first);
        IRollup.Status memory s = rollup.status();
        vm.assertEq(s.committedBatches, 1);
        vm.assertEq(s.committedQueueHead, 0);
        vm.assertEq(s.committedRoot, proven.newRoot);
        vm.assertEq(s.committedTimestamp, proven.timestamp);
        vm.assertEq(rollup.batchHash(2), 0);
        // The request is there again, and the chain goes on from the last proven root.
        IRollup.StoredBatch memory again = commit(draftConsuming(0, 1, 6));
        vm.assertEq(again.oldRoot, proven.newRoot);
        prove(again);
    }

    function test_revertBatches_leaves_nothing_of_a_dropped_batch_to_prove() public {
        IRollup.StoredBatch memory dropped = commit(draft());
        skip(6 hours + 1);
        rollup.revertBatches(dropped);
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(dropped);
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.StoredBatchMismatch.selector, 1));
        commit(draft());
        _refuseProof(batches, proofs, abi.encodeWithSelector(IRollup.StoredBatchMismatch.selector, 1));
    }

    function test_revertBatches_refuses_when_none_waits_or_another_is_first() public {
        IRollup.StoredBatch memory stored = expected(draft());
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToRevert.selector));
        rollup.revertBatches(stored);
        IRollup.StoredBatch memory first = commit(draft());
        IRollup.StoredBatch memory second = commit(draft());
        skip(7 hours);
        vm.expectRevert(abi.encodeWithSelector(IRollup.BatchNumberMismatch.selector, 1, 2));
        rollup.revertBatches(second);
        first.committedAt -= 1;
        vm.expectRevert(abi.encodeWithSelector(IRollup.StoredBatchMismatch.selector, 1));
        rollup.revertBatches(first);
    }

    function test_a_late_proof_counts_until_someone_reverts() public {
        IRollup.StoredBatch memory stored = commit(draft());
        skip(30 days);
        prove(stored);
        vm.assertEq(rollup.status().provenBatches, 1);
    }
}
