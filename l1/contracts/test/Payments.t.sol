// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Reference} from "./utils/Reference.sol";
import {MoodyToken} from "./mocks/Tokens.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @dev A receiver in a mood: 0 takes, 1 reverts, 2 burns all gas, 3 reverts with a megabyte, 4 burns 150,000 gas and
///      takes, 5 calls back.
contract Receiver {
    uint256 public mood;
    IRollup public rollup;
    bytes public call;
    bytes public reason;
    uint256 private sink;

    function setMood(uint256 mood_) external {
        mood = mood_;
    }

    function setCall(IRollup rollup_, bytes calldata call_) external {
        (rollup, call, mood) = (rollup_, call_, 5);
    }

    function claimTo(IRollup rollup_, uint32 token, address to, uint256 amount) external {
        rollup_.claimTo(token, to, amount);
    }

    receive() external payable {
        uint256 mood_ = mood;
        assembly ("memory-safe") {
            switch mood_
            case 1 { revert(0, 0) }
            case 2 { invalid() }
            case 3 { revert(0, 1000000) }
            case 4 {
                let least := sub(gas(), 150000)
                for {} gt(gas(), least) {} {}
            }
        }
        if (mood_ == 5) {
            (, bytes memory data) = address(rollup).call(call);
            reason = data;
        }
    }
}

/// @title What leaves: payouts of proven batches, and claims
contract PaymentsTest is RollupTest {
    Receiver private receiver;

    function setUp() public override {
        super.setUp();
        receiver = new Receiver();
        // What the payouts below come from.
        deposit(STRANGER, 0, 10_000 ether);
        deposit(STRANGER, 1, 10_000 ether);
        commitAndProve(draftConsuming(0, 2, 9));
    }

    function _proven(IRollup.Batch memory batch) private returns (uint64 number, bytes memory payouts) {
        number = commitAndProve(batch).number;
        payouts = payoutsOf(batch);
    }

    function _many(uint16 count) private returns (IRollup.Batch memory batch) {
        batch = draft();
        batch.circuitId = LARGE;
        for (uint16 i = 0; i < count; ++i) {
            batch.rows = bytes.concat(batch.rows, row(7, 0, 0, 0));
            batch.extras =
                bytes.concat(batch.extras, withdrawal(i, address(uint160(0xCAFE00) + i), i % 2, uint128(i) + 1));
        }
    }

    function _balance(uint256 i) private view returns (uint256) {
        address account = address(uint160(0xCAFE00 + i));
        return i % 2 == 0 ? account.balance : token.balanceOf(account);
    }

    // ------------------------------------------------------------------------------------------------ payWithdrawals

    function test_payWithdrawals_pays_each_once() public {
        (uint64 number, bytes memory payouts) = _proven(_many(6));
        uint256 before = rollup.outstanding(0);
        vm.expectEmit(address(rollup));
        emit IRollup.Payout(number, 1, address(0xCAFE01), 1, 2, true);
        pay(number, payouts, 0, 2);
        vm.assertEq(_balance(0), 0);
        vm.assertEq(_balance(1), 2);
        vm.assertEq(rollup.paidMask(number, 0), 2);
        pay(number, payouts, 0, 7); // 1 is skipped
        vm.assertEq(_balance(0), 1);
        vm.assertEq(_balance(1), 2);
        vm.assertEq(_balance(2), 3);
        pay(number, payouts, 0, type(uint256).max);
        for (uint256 i = 0; i < 6; ++i) {
            vm.assertEq(_balance(i), i + 1);
        }
        vm.assertEq(rollup.paidMask(number, 0), 63);
        vm.assertEq(before - rollup.outstanding(0), 1 + 3 + 5);
        bytes32[] memory hashes = Reference.chunkHashes(payouts);
        bytes memory records = Reference.chunk(payouts, 0);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToPay.selector, number, 0, 63));
        rollup.payWithdrawals(number, hashes, 0, records, 63);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToPay.selector, number, 0, 64));
        rollup.payWithdrawals(number, hashes, 0, records, 64); // there is no seventh
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToPay.selector, number, 0, 0));
        rollup.payWithdrawals(number, hashes, 0, records, 0);
    }

    /// @dev Ten chunks: bitmaps of 8 chunks a word must not run into each other.
    function test_payWithdrawals_keeps_chunks_apart() public {
        (uint64 number, bytes memory payouts) = _proven(_many(300));
        for (uint256 i = 0; i < 10; ++i) {
            uint256 chunk = 9 - i;
            vm.assertEq(rollup.paidMask(number, chunk), 0);
            pay(number, payouts, chunk, type(uint256).max);
            vm.assertEq(rollup.paidMask(number, chunk), chunk == 9 ? 2 ** 12 - 1 : 2 ** 32 - 1);
        }
        for (uint256 i = 0; i < 300; ++i) {
            vm.assertEq(_balance(i), i + 1);
        }
    }

    /// forge-config: default.fuzz.runs = 32
    function testFuzz_payWithdrawals_pays_what_the_masks_say(uint256 first, uint256 second) public {
        (uint64 number, bytes memory payouts) = _proven(_many(40));
        first |= 1;
        second |= 2;
        pay(number, payouts, 0, first);
        if (second & ~first & type(uint32).max != 0) pay(number, payouts, 0, second);
        for (uint256 i = 0; i < 40; ++i) {
            bool paid = i < 32 && ((first | second) >> i) & 1 == 1;
            vm.assertEq(_balance(i), paid ? i + 1 : 0);
        }
    }

    function test_payWithdrawals_refuses_what_no_proven_batch_pays() public {
        IRollup.Batch memory batch = _many(4);
        bytes memory payouts = payoutsOf(batch);
        bytes32[] memory hashes = Reference.chunkHashes(payouts);
        IRollup.StoredBatch memory stored = commit(batch);
        uint64 number = stored.number;
        // Committed is not proven.
        vm.expectRevert(abi.encodeWithSelector(IRollup.PayoutsMismatch.selector, number));
        rollup.payWithdrawals(number, hashes, 0, payouts, 1);
        prove(stored);
        // Another batch, a batch that never was, none at all.
        vm.expectRevert(abi.encodeWithSelector(IRollup.PayoutsMismatch.selector, 1));
        rollup.payWithdrawals(1, hashes, 0, payouts, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.PayoutsMismatch.selector, 1));
        rollup.payWithdrawals(1, new bytes32[](0), 0, "", 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.PayoutsMismatch.selector, 99));
        rollup.payWithdrawals(99, hashes, 0, payouts, 1);
        // Altered records, a chunk that is not there, other hashes.
        payouts[39] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IRollup.ChunkMismatch.selector, number, 0));
        rollup.payWithdrawals(number, hashes, 0, payouts, 1);
        payouts[39] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IRollup.ChunkMismatch.selector, number, 1));
        rollup.payWithdrawals(number, hashes, 1, payouts, 1);
        hashes[0] = ~hashes[0];
        vm.expectRevert(abi.encodeWithSelector(IRollup.PayoutsMismatch.selector, number));
        rollup.payWithdrawals(number, hashes, 0, payouts, 1);
    }

    /// @dev A number that no token has must never be taken for ETH.
    function test_a_payout_of_an_unknown_token_pays_nothing() public {
        (uint64 number, bytes memory payouts) = _proven(draftPaying(ALICE, 2, 0));
        bytes32[] memory hashes = Reference.chunkHashes(payouts);
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenNotRegistered.selector, 2));
        rollup.payWithdrawals(number, hashes, 0, payouts, 1);
    }

    function test_l1_rows_pay_before_withdrawals() public {
        deposit(ALICE, 0, 3 ether); // refused below
        requestExit(BOB, 5, 1); // pays
        requestExit(BOB, 6, 0); // pays nothing
        IRollup.Batch memory batch = draftConsuming(2, 3, 0);
        batch.l1Rows[1].result = 44;
        batch.rows = bytes.concat(row(7, 0, 0, 0), row(0, 0, 0, 0));
        batch.extras = withdrawal(0, address(0xCAFE), 0, 55);
        (uint64 number, bytes memory payouts) = _proven(batch);
        bytes memory wanted = abi.encodePacked(ALICE, uint32(0), uint128(3 ether), BOB, uint32(1), uint128(44));
        wanted = bytes.concat(wanted, abi.encodePacked(address(0xCAFE), uint32(0), uint128(55)));
        vm.assertEq(keccak256(payouts), keccak256(wanted));
        (uint256 alice, uint256 bob) = (ALICE.balance, token.balanceOf(BOB));
        pay(number, payouts, 0, 7);
        vm.assertEq(ALICE.balance - alice, 3 ether);
        vm.assertEq(token.balanceOf(BOB) - bob, 44);
        vm.assertEq(address(0xCAFE).balance, 55);
    }

    // ------------------------------------------------------------------------------------------------ failures

    function test_a_failed_payment_becomes_claimable() public {
        for (uint256 mood = 1; mood <= 3; ++mood) {
            receiver.setMood(mood);
            IRollup.Batch memory batch = draft();
            batch.rows = bytes.concat(row(7, 0, 0, 0), row(8, 0, 0, 0));
            batch.extras = bytes.concat(withdrawal(0, address(receiver), 0, 5), withdrawal(1, BENEFICIARY, 1, 6));
            (uint64 number, bytes memory payouts) = _proven(batch);
            uint256 before = token.balanceOf(BENEFICIARY);
            vm.expectEmit(address(rollup));
            emit IRollup.Payout(number, 0, address(receiver), 0, 5, false);
            pay(number, payouts, 0, 3);
            // The one after it is paid all the same, and neither again.
            vm.assertEq(token.balanceOf(BENEFICIARY) - before, 6);
            vm.assertEq(rollup.claimable(0, address(receiver)), 5 * mood);
            vm.assertEq(rollup.paidMask(number, 0), 3);
        }
        vm.expectRevert(abi.encodeWithSelector(IRollup.PaymentFailed.selector, 0, address(receiver)));
        rollup.claim{gas: 3_000_000}(0, address(receiver));
        receiver.setMood(0);
        vm.expectEmit(address(rollup));
        emit IRollup.Claimed(0, address(receiver), address(receiver), 15);
        rollup.claim(0, address(receiver));
        vm.assertEq(address(receiver).balance, 15);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToClaim.selector, 0, address(receiver)));
        rollup.claim(0, address(receiver));
    }

    function test_a_failing_token_makes_payments_claimable() public {
        MoodyToken moody = new MoodyToken();
        moody.mint(address(this), 1000);
        moody.approve(address(rollup), 1000);
        uint32 number = rollup.registerToken(address(moody));
        rollup.deposit{value: FEE}(number, 1000, 1);
        for (uint256 mode = 1; mode <= 6; ++mode) {
            moody.setMode(mode);
            (uint64 batch, bytes memory payouts) = _proven(draftPaying(ALICE, number, 10));
            pay(batch, payouts, 0, 1);
            vm.assertEq(rollup.claimable(number, ALICE), 10 * mode);
            vm.expectRevert(abi.encodeWithSelector(IRollup.PaymentFailed.selector, number, ALICE));
            rollup.claim{gas: 5_000_000}(number, ALICE);
        }
        // It lost its code: calls to nothing succeed and return nothing, and count as failures.
        bytes memory code = address(moody).code;
        vm.etch(address(moody), "");
        vm.expectRevert(abi.encodeWithSelector(IRollup.PaymentFailed.selector, number, ALICE));
        rollup.claim(number, ALICE);
        vm.etch(address(moody), code);
        moody.setMode(0);
        rollup.claim(number, ALICE);
        vm.assertEq(moody.balanceOf(ALICE), 60);
    }

    /// @dev *A caller must not make payments fail*: with any gas he sends, a payment that can succeed is made or the
    ///      transaction reverts.
    function testFuzz_a_caller_cannot_starve_a_payment(uint256 gasLimit) public {
        gasLimit = bound(gasLimit, 50_000, 700_000);
        receiver.setMood(4);
        (uint64 number, bytes memory payouts) = _proven(draftPaying(address(receiver), 0, 5));
        bytes memory input = abi.encodeCall(
            IRollup.payWithdrawals, (number, Reference.chunkHashes(payouts), 0, Reference.chunk(payouts, 0), 1)
        );
        (bool ok,) = address(rollup).call{gas: gasLimit}(input);
        vm.assertEq(rollup.claimable(0, address(receiver)), 0);
        vm.assertEq(address(receiver).balance, ok ? 5 : 0);
    }

    function test_payWithdrawals_says_when_gas_is_too_low() public {
        (uint64 number, bytes memory payouts) = _proven(draftPaying(address(receiver), 0, 5));
        bytes memory input = abi.encodeCall(
            IRollup.payWithdrawals, (number, Reference.chunkHashes(payouts), 0, Reference.chunk(payouts, 0), 1)
        );
        (bool ok, bytes memory reason) = address(rollup).call{gas: 250_000}(input);
        vm.assertFalse(ok);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IRollup.GasTooLow.selector));
        vm.assertEq(rollup.paidMask(number, 0), 0);
    }

    function test_a_receiver_cannot_call_back() public {
        (uint64 number, bytes memory payouts) = _proven(draftPaying(address(receiver), 0, 5));
        bytes memory again = abi.encodeCall(
            IRollup.payWithdrawals, (number, Reference.chunkHashes(payouts), 0, Reference.chunk(payouts, 0), 1)
        );
        receiver.setCall(rollup, again);
        pay(number, payouts, 0, 1);
        vm.assertEq(address(receiver).balance, 5);
        vm.assertEq(keccak256(receiver.reason()), keccak256(abi.encodeWithSelector(IRollup.Reentered.selector)));
    }

    // ------------------------------------------------------------------------------------------------ claims

    function _claimable() private {
        receiver.setMood(1);
        (uint64 number, bytes memory payouts) = _proven(draftPaying(address(receiver), 0, 50));
        pay(number, payouts, 0, 1);
    }

    function test_claimTo_pays_a_part_elsewhere() public {
        _claimable();
        receiver.claimTo(rollup, 0, address(0xCAFE), 20);
        vm.assertEq(address(0xCAFE).balance, 20);
        vm.assertEq(rollup.claimable(0, address(receiver)), 30);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ClaimTooLarge.selector, 30, 31));
        receiver.claimTo(rollup, 0, address(0xCAFE), 31);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ReceiverIsZero.selector));
        receiver.claimTo(rollup, 0, address(0), 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.NothingToClaim.selector, 0, address(receiver)));
        receiver.claimTo(rollup, 0, address(0xCAFE), 0);
        receiver.claimTo(rollup, 0, address(0xCAFE), 30);
        vm.assertEq(rollup.claimable(0, address(receiver)), 0);
    }

    function test_claimTo_pays_nobody_else() public {
        _claimable();
        vm.expectRevert(abi.encodeWithSelector(IRollup.ClaimTooLarge.selector, 0, 50));
        vm.prank(STRANGER);
        rollup.claimTo(0, STRANGER, 50);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ClaimTooLarge.selector, 0, 50));
        receiver.claimTo(rollup, 1, address(0xCAFE), 50); // another token
    }

    function test_a_claim_cannot_call_back() public {
        _claimable();
        receiver.setCall(rollup, abi.encodeCall(IRollup.claim, (0, address(receiver))));
        rollup.claim(0, address(receiver));
        vm.assertEq(address(receiver).balance, 50);
        vm.assertEq(keccak256(receiver.reason()), keccak256(abi.encodeWithSelector(IRollup.Reentered.selector)));
    }
}
