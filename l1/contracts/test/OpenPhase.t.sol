// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @title An operator who leaves requests lying makes room for anyone
contract OpenPhaseTest is RollupTest {
    function _strangerProves(IRollup.Batch memory batch) private returns (IRollup.StoredBatch memory stored) {
        IRollup.Status memory s = rollup.status();
        // In the open phase a batch builds on the last proven one.
        uint64 waiting = s.committedBatches - s.provenBatches;
        stored = statement(batch, s.provenBatches + 1, s.provenRoot, s.provenQueueHead);
        IRollup.Proof memory proof = proofOf(stored);
        if (waiting != 0) {
            vm.expectEmit(address(rollup));
            emit IRollup.BatchesDropped(s.provenBatches + 1, s.committedBatches);
        }
        vm.prank(STRANGER, STRANGER);
        rollup.commitAndProve(stored.number, batch, proof);
    }

    function _open() private {
        deposit(ALICE, 0, 1 ether);
        skip(24 hours + 1);
        vm.assertTrue(rollup.isOpenPhase());
    }

    function test_idle_time_alone_opens_nothing() public {
        skip(365 days);
        vm.assertFalse(rollup.isOpenPhase());
        commit(draft());
    }

    function test_the_phase_opens_when_the_oldest_unproven_request_is_a_day_old() public {
        deposit(ALICE, 0, 1 ether);
        skip(24 hours);
        deposit(BOB, 0, 1 ether);
        vm.assertFalse(rollup.isOpenPhase());
        skip(1);
        vm.assertTrue(rollup.isOpenPhase());
    }

    function test_commitBatch_refuses_everyone_in_the_open_phase() public {
        _open();
        IRollup.Batch memory batch = draft();
        vm.expectRevert(abi.encodeWithSelector(IRollup.InOpenPhase.selector));
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitBatch(1, batch);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotOperator.selector, STRANGER));
        vm.prank(STRANGER, STRANGER);
        rollup.commitBatch(1, batch);
    }

    function test_commitAndProve_is_open_to_anyone_and_ends_the_phase() public {
        _open();
        _strangerProves(draftConsuming(0, 1, 5));
        vm.assertFalse(rollup.isOpenPhase());
        commit(draft());
        IRollup.Batch memory batch = draft();
        IRollup.Proof memory proof = proofOf(expected(batch));
        vm.expectRevert(abi.encodeWithSelector(IRollup.NotOperator.selector, STRANGER));
        vm.prank(STRANGER, STRANGER);
        rollup.commitAndProve(3, batch, proof);
    }

    /// @dev A committed batch does not end the phase, only a proof does: the operator cannot hold the queue with commits.
    function test_commitAndProve_drops_unproven_batches_in_the_open_phase() public {
        deposit(ALICE, 0, 1 ether);
        IRollup.StoredBatch memory held = commit(draftConsuming(0, 1, 5));
        skip(24 hours + 1);
        vm.assertTrue(rollup.isOpenPhase());
        IRollup.StoredBatch memory stored = _strangerProves(draftConsuming(0, 1, 6));
        vm.assertEq(stored.oldRoot, held.oldRoot);
        vm.assertEq(rollup.status().provenRoot, stored.newRoot);
        vm.assertEq(rollup.status().committedBatches, 1);
        vm.assertEq(rollup.status().committedQueueHead, 1);
    }

    function test_proveBatches_still_works_and_ends_the_phase() public {
        deposit(ALICE, 0, 1 ether);
        IRollup.StoredBatch memory stored = commit(draftConsuming(0, 1, 5));
        skip(24 hours + 1);
        prove(stored);
        vm.assertFalse(rollup.isOpenPhase());
    }

    /// @dev Rivals can only clear the queue: a batch that leaves requests out, or none in, is refused.
    function test_commitAndProve_must_clear_the_queue_in_the_open_phase() public {
        deposit(ALICE, 0, 1 ether);
        deposit(ALICE, 0, 2 ether);
        skip(24 hours + 1);
        for (uint256 count = 0; count < 2; ++count) {
            IRollup.Batch memory batch = draftConsuming(0, count, 5);
            IRollup.Proof memory proof;
            vm.expectRevert(abi.encodeWithSelector(IRollup.RequestLeftOut.selector, count));
            vm.prank(STRANGER, STRANGER);
            rollup.commitAndProve(1, batch, proof);
            // The operator too.
            vm.expectRevert(abi.encodeWithSelector(IRollup.RequestLeftOut.selector, count));
            vm.prank(OPERATOR, OPERATOR);
            rollup.commitAndProve(1, batch, proof);
        }
        _strangerProves(draftConsuming(0, 2, 5));
    }

    function test_commitAndProve_may_leave_requests_newer_than_its_timestamp() public {
        _open();
        deposit(BOB, 0, 1 ether);
        IRollup.Batch memory batch = draftConsuming(0, 1, 5);
        IRollup.Proof memory none;
        vm.expectRevert(abi.encodeWithSelector(IRollup.RequestLeftOut.selector, 1));
        vm.prank(STRANGER, STRANGER);
        rollup.commitAndProve(1, batch, none);
        batch.timestamp -= 1;
        _strangerProves(batch);
        vm.assertEq(rollup.status().provenQueueHead, 1);
    }

    function test_commitAndProve_takes_what_its_circuit_holds() public {
        for (uint256 i = 0; i < 6; ++i) {
            deposit(ALICE, 0, 1 ether);
        }
        skip(24 hours + 1);
        _strangerProves(draftConsuming(0, 4, 5));
        vm.assertTrue(rollup.isOpenPhase());
        _strangerProves(draftConsuming(4, 2, 5));
        vm.assertFalse(rollup.isOpenPhase());
    }
}
