// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {FeeToken, HookToken, MoodyToken, SilentToken, TestToken} from "./mocks/Tokens.sol";
import {Queue} from "../src/libraries/Queue.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @dev Writes storage: to reach states that no transaction reaches in a test's time.
interface VmStore {
    function store(address target, bytes32 slot, bytes32 value) external;
}

/// @dev Cannot be paid, but can deposit.
contract Unpayable {
    function deposit(IRollup rollup, uint128 amount) external payable {
        rollup.deposit{value: msg.value}(0, amount, 1);
    }
}

/// @dev Uses its refund to call back.
contract Reentrant {
    IRollup private rollup;
    bytes public reason;

    function deposit(IRollup rollup_, uint128 amount) external payable {
        rollup = rollup_;
        rollup_.deposit{value: msg.value}(0, amount, 1);
    }

    receive() external payable {
        try rollup.deposit{value: 1}(0, 1, 1) {}
        catch (bytes memory data) {
            reason = data;
        }
    }
}

/// @title What enters: tokens, deposits, exit requests, fees, deadlines
contract RequestsTest is RollupTest {
    // ------------------------------------------------------------------------------------------------ tokens

    function test_registerToken_numbers_tokens_in_order() public {
        TestToken second = new TestToken();
        vm.expectEmit(address(rollup));
        emit IRollup.TokenRegistered(2, address(second));
        vm.prank(STRANGER);
        vm.assertEq(rollup.registerToken(address(second)), 2);
        vm.assertEq(rollup.tokenCount(), 2);
        vm.assertEq(rollup.tokenNumber(address(second)), 2);
        vm.assertEq(rollup.tokenAddress(2), address(second));
        vm.assertEq(rollup.tokenAddress(0), address(0));
    }

    function test_registerToken_refuses_twice_and_no_code() public {
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenAlreadyRegistered.selector, address(token), 1));
        rollup.registerToken(address(token));
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenHasNoCode.selector, ALICE));
        rollup.registerToken(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenHasNoCode.selector, address(0)));
        rollup.registerToken(address(0));
    }

    function test_registerToken_refuses_more_than_a_number_holds() public {
        vm.record();
        rollup.tokenCount();
        (bytes32[] memory reads,) = vm.accesses(address(rollup));
        VmStore(address(vm)).store(address(rollup), reads[0], bytes32(uint256(type(uint32).max)));
        address next = address(new TestToken());
        vm.expectRevert(abi.encodeWithSelector(IRollup.TooManyTokens.selector));
        rollup.registerToken(next);
    }

    // ------------------------------------------------------------------------------------------------ deposits

    function test_deposit_of_ether_queues_a_request() public {
        uint256 before = ALICE.balance;
        IRollup.Request memory request =
            IRollup.Request(1, 0, 0, 5 ether, ALICE, ownerOf(ALICE), 0, 0, uint64(now_()), uint64(now_()) + 7 days);
        vm.expectEmit(address(rollup));
        emit IRollup.RequestQueued(0, ALICE, request);
        vm.assertEq(deposit(ALICE, 0, 5 ether), 0);
        vm.assertEq(rollup.requestHash(0), keccak256(abi.encode(request)));
        vm.assertEq(rollup.requestCreated(0), now_());
        vm.assertEq(rollup.requestCreated(1), 0);
        vm.assertEq(rollup.status().queueTail, 1);
        vm.assertEq(rollup.outstanding(0), 5 ether);
        vm.assertEq(before - ALICE.balance, 5 ether + FEE);
    }

    function test_deposit_of_a_token_queues_a_request() public {
        deposit(ALICE, 1, 7);
        vm.assertEq(rollup.requestHash(0), keccak256(abi.encode(requests[0])));
        vm.assertEq(token.balanceOf(address(rollup)), 7);
        vm.assertEq(rollup.outstanding(1), 7);
        vm.assertEq(rollup.outstanding(0), 0);
    }

    function testFuzz_requests_keep_their_hash_and_time(uint256 seed, uint256 count) public {
        count = bound(count, 1, 20);
        for (uint256 i = 0; i < count; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, i)));
            skip(word % 3600);
            if (word & 1 == 0) deposit(ALICE, uint32(word >> 1) & 1, uint128(bound(word >> 8, 1, 1e22)));
            else requestExit(BOB, uint24(bound(word >> 8, 1, 2 ** 24 - 1)), uint32(word >> 1) & 1);
        }
        for (uint64 i = 0; i < count; ++i) {
            vm.assertEq(rollup.requestHash(i), keccak256(abi.encode(requests[i])));
            vm.assertEq(rollup.requestCreated(i), requests[i].created);
        }
        vm.assertEq(rollup.requestCreated(uint64(count)), 0);
    }

    function test_deposit_returns_what_is_too_much() public {
        uint256 before = ALICE.balance;
        vm.prank(ALICE);
        rollup.deposit{value: 10 ether}(0, 1 ether, 1);
        vm.assertEq(before - ALICE.balance, 1 ether + FEE);
        vm.prank(ALICE);
        rollup.deposit{value: 10 ether}(1, 5, 1);
        vm.prank(ALICE);
        rollup.requestExit{value: 10 ether}(1, 0, 0, 0);
        vm.assertEq(before - ALICE.balance, 1 ether + 3 * FEE);
    }

    function test_deposit_fails_if_its_refund_does() public {
        Unpayable unpayable = new Unpayable();
        vm.expectRevert(abi.encodeWithSelector(IRollup.RefundFailed.selector, address(unpayable)));
        unpayable.deposit{value: 1 ether + FEE + 1}(rollup, 1 ether);
        unpayable.deposit{value: 1 ether + FEE}(rollup, 1 ether);
    }

    function test_deposit_refuses_bad_arguments() public {
        vm.expectRevert(abi.encodeWithSelector(IRollup.OwnerOutOfRange.selector, 0));
        rollup.deposit{value: 1 ether}(0, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IRollup.OwnerOutOfRange.selector, R));
        rollup.deposit{value: 1 ether}(0, 1, R);
        vm.expectRevert(abi.encodeWithSelector(IRollup.OwnerOutOfRange.selector, R + 1));
        rollup.deposit{value: 1 ether}(0, 1, R + 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.AmountIsZero.selector));
        rollup.deposit{value: 1 ether}(0, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.AmountIsZero.selector));
        rollup.deposit{value: 1 ether}(1, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenNotRegistered.selector, 2));
        rollup.deposit{value: 1 ether}(2, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ValueTooLow.selector, FEE + 1 ether, FEE + 1 ether - 1));
        rollup.deposit{value: FEE + 1 ether - 1}(0, 1 ether, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ValueTooLow.selector, FEE, FEE - 1));
        rollup.deposit{value: FEE - 1}(1, 1, 1);
    }

    /// @dev A balance in a circuit stays below 2^128 because no more than 2^127 of a token is ever inside.
    function test_deposit_caps_what_is_outstanding() public {
        uint256 cap = 1 << 127;
        token.mint(ALICE, 2 * cap);
        deposit(ALICE, 1, uint128(cap - 5));
        vm.expectRevert(abi.encodeWithSelector(IRollup.OutstandingTooLarge.selector, 1, cap, cap + 1));
        vm.prank(ALICE);
        rollup.deposit{value: FEE}(1, 6, 1);
        deposit(ALICE, 1, 5);
        // An amount of more than 128 bits arrives only of a token that mints at will.
        vm.assertEq(rollup.outstanding(1), cap);
    }

    function test_deposit_credits_what_really_arrives() public {
        FeeToken feeToken = new FeeToken();
        feeToken.mint(address(this), 10_000);
        feeToken.approve(address(rollup), 10_000);
        uint32 number = rollup.registerToken(address(feeToken));
        rollup.deposit{value: FEE}(number, 10_000, 1);
        IRollup.Request memory request =
            IRollup.Request(1, 0, number, 9_900, address(this), 1, 0, 0, uint64(now_()), uint64(now_()) + 7 days);
        vm.assertEq(rollup.requestHash(0), keccak256(abi.encode(request)));
        vm.assertEq(rollup.outstanding(number), 9_900);
    }

    function test_deposit_works_with_a_token_that_returns_nothing() public {
        SilentToken silent = new SilentToken();
        silent.mint(address(this), 5);
        silent.approve(address(rollup), 5);
        uint32 number = rollup.registerToken(address(silent));
        rollup.deposit{value: FEE}(number, 5, 1);
        vm.assertEq(rollup.outstanding(number), 5);
    }

    function test_deposit_refuses_a_token_that_fails() public {
        MoodyToken moody = new MoodyToken();
        moody.mint(address(this), 100);
        moody.approve(address(rollup), 100);
        uint32 number = rollup.registerToken(address(moody));
        for (uint256 mode = 1; mode <= 6; ++mode) {
            moody.setMode(mode);
            vm.expectRevert(abi.encodeWithSelector(IRollup.TokenCallFailed.selector, address(moody)));
            rollup.deposit{value: FEE, gas: 5_000_000}(number, 5, 1);
        }
        moody.setMode(0);
        rollup.deposit{value: FEE}(number, 5, 1);
        // Its code is gone: nothing answers for its balance.
        vm.etch(address(moody), "");
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenCallFailed.selector, address(moody)));
        rollup.deposit{value: FEE}(number, 5, 1);
    }

    // ------------------------------------------------------------------------------------------------ the lock

    /// @dev A token that calls back in the middle of a deposit finds every door locked.
    function test_a_token_cannot_call_back() public {
        HookToken hook = new HookToken();
        hook.mint(address(this), 1000);
        hook.approve(address(rollup), 1000);
        uint32 number = rollup.registerToken(address(hook));
        IRollup.Batch memory batch = draft();
        IRollup.StoredBatch memory stored = expected(batch);
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        IRollup.Request memory request;
        IRollup.Leaf memory leaf;
        bytes[13] memory calls = [
            abi.encodeCall(IRollup.registerToken, (ALICE)),
            abi.encodeCall(IRollup.deposit, (0, 0, 1)),
            abi.encodeCall(IRollup.requestExit, (1, 0, 0, 0)),
            abi.encodeCall(IRollup.commitBatch, (1, batch)),
            abi.encodeCall(IRollup.proveBatches, (batches, proofs)),
            abi.encodeCall(IRollup.commitAndProve, (1, batch, proofs[0])),
            abi.encodeCall(IRollup.revertBatches, (stored)),
            abi.encodeCall(IRollup.payWithdrawals, (1, new bytes32[](0), 0, "", 0)),
            abi.encodeCall(IRollup.claim, (0, ALICE)),
            abi.encodeCall(IRollup.claimTo, (0, ALICE, 1)),
            abi.encodeCall(IRollup.enterEscape, (request)),
            abi.encodeCall(IRollup.escapeExit, (leaf)),
            abi.encodeCall(IRollup.cancelDeposit, (0, request))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            hook.setHook(address(rollup), calls[i]);
            rollup.deposit{value: FEE}(number, 5, 1);
            vm.assertFalse(hook.lastOk());
            vm.assertEq(keccak256(hook.lastReturn()), keccak256(abi.encodeWithSelector(IRollup.Reentered.selector)));
        }
        vm.assertEq(rollup.outstanding(number), 5 * calls.length);
    }

    function test_a_refund_cannot_call_back() public {
        Reentrant reentrant = new Reentrant();
        reentrant.deposit{value: 2 ether}(rollup, 1 ether);
        vm.assertEq(keccak256(reentrant.reason()), keccak256(abi.encodeWithSelector(IRollup.Reentered.selector)));
        vm.assertEq(rollup.outstanding(0), 1 ether);
    }

    // ------------------------------------------------------------------------------------------------ exits

    function test_requestExit_queues_a_request() public {
        requestExit(BOB, 77, 1);
        vm.assertEq(rollup.requestHash(0), keccak256(abi.encode(requests[0])));
        vm.assertEq(requests[0].sender, BOB);
    }

    function test_requestExit_refuses_bad_arguments() public {
        vm.expectRevert(abi.encodeWithSelector(IRollup.IndexOutOfRange.selector, 0));
        rollup.requestExit{value: FEE}(0, 0, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.TokenNotRegistered.selector, 2));
        rollup.requestExit{value: FEE}(1, 2, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.KeyOutOfRange.selector, R, 1));
        rollup.requestExit{value: FEE}(1, 0, R, 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.KeyOutOfRange.selector, 1, R + 1));
        rollup.requestExit{value: FEE}(1, 0, 1, R + 1);
        vm.expectRevert(abi.encodeWithSelector(IRollup.ValueTooLow.selector, FEE, FEE - 1));
        rollup.requestExit{value: FEE - 1}(1, 0, 1, 1);
        // 4^12 does not fit the type.
        (bool ok,) =
            address(rollup).call{value: FEE}(abi.encodeWithSelector(IRollup.requestExit.selector, 1 << 24, 0, 1, 1));
        vm.assertFalse(ok);
    }

    // ------------------------------------------------------------------------------------------------ deadlines and fees

    /// @dev *Flooding does not force an escape*: deadlines keep the distance that one small machine needs.
    function test_deadlines_keep_their_distance() public {
        for (uint256 i = 0; i < 10; ++i) {
            deposit(ALICE, 0, 1);
        }
        for (uint256 i = 0; i < 10; ++i) {
            vm.assertEq(requests[i].deadline, now_() + 7 days + 30 * i);
            vm.assertEq(rollup.requestHash(uint64(i)), keccak256(abi.encode(requests[i])));
        }
        skip(1 days);
        deposit(ALICE, 0, 1);
        vm.assertEq(requests[10].deadline, now_() + 7 days);
    }

    function testFuzz_fee_doubles_each_1024_open_requests_and_is_capped(uint128 base, uint40 open) public pure {
        uint256 fee = Queue.fee(base, open);
        uint256 steps = open / 1024;
        vm.assertEq(fee, uint256(base) * 2 ** (steps > 10 ? 10 : steps));
    }

    /// @dev *Flooding does not price exits out*: the fee doubles with the queue, up to 1,024 times, and falls with it.
    function test_the_fee_follows_the_queue() public {
        vm.startPrank(ALICE, ALICE);
        for (uint256 i = 0; i < 1024; ++i) {
            rollup.requestExit{value: FEE}(1, 0, 1, 1);
        }
        vm.stopPrank();
        vm.assertEq(rollup.requestFee(), 2 * FEE);
        vm.assertEq(rollup.feePot(), 1024 * (FEE / 2));
        vm.expectRevert(abi.encodeWithSelector(IRollup.ValueTooLow.selector, 2 * FEE, FEE));
        rollup.requestExit{value: FEE}(1, 0, 1, 1);
    }

    function test_half_of_the_fees_goes_to_the_beneficiary() public {
        for (uint256 i = 0; i < 4; ++i) {
            deposit(ALICE, 0, 1);
        }
        vm.assertEq(rollup.feePot(), 2 * FEE);
        IRollup.StoredBatch memory stored = commit(draftConsuming(0, 3, 9));
        vm.assertEq(rollup.claimable(0, BENEFICIARY), 0); // not before the proof
        vm.expectEmit(address(rollup));
        emit IRollup.Claimable(0, BENEFICIARY, uint256(FEE) * 3 / 2);
        prove(stored);
        vm.assertEq(rollup.claimable(0, BENEFICIARY), uint256(FEE) * 3 / 2);
        vm.assertEq(rollup.feePot(), FEE / 2);
        commitAndProve(draftConsuming(3, 1, 9));
        vm.assertEq(rollup.claimable(0, BENEFICIARY), 2 * FEE);
        vm.assertEq(rollup.feePot(), 0);
        vm.prank(STRANGER);
        rollup.claim(0, BENEFICIARY);
        vm.assertEq(BENEFICIARY.balance, 2 * FEE);
        // The other half is burnt: it stays, owed to nobody.
        vm.assertEq(address(rollup).balance, rollup.outstanding(0) + 2 * FEE);
    }

    function testFuzz_share_never_exceeds_the_pot(uint128 pot, uint40 open, uint40 count) public pure {
        vm.assume(open > 0);
        uint256 taken = Queue.share(pot, count % (uint256(open) + 1), open);
        vm.assertLe(taken, pot, "share");
        vm.assertEq(Queue.share(pot, open, open), pot);
    }
}
