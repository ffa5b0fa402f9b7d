// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsTest} from "./utils/ChannelsTest.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";

/// @title Closing alone, answering, settling
contract ChannelDisputesTest is ChannelsTest {
    bytes32 private constant PREIMAGE = keccak256("preimage");
    bytes32 private constant OTHER = keccak256("other");

    function setUp() public override {
        super.setUp();
        fund(1000, 500);
    }

    function _in(uint256 time) private view returns (uint64) {
        return uint64(now_() + time);
    }

    function _selector(bytes4 selector) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector);
    }

    function _holds(IChannels.Half memory a, IChannels.Half memory b) private view {
        IChannels.Dispute memory d = channels.dispute(id);
        vm.assertEq(keccak256(abi.encode(d.halves.a)), keccak256(abi.encode(a)));
        vm.assertEq(keccak256(abi.encode(d.halves.b)), keccak256(abi.encode(b)));
    }

    // ------------------------------------------------------------------------------------------------ who and when

    function test_submit_by_a_signer_needs_only_the_other_signature() public {
        IChannels.Halves memory halves = halvesOf(3, 10, 4, 20);
        bytes memory sigB = sign(KEY_B, channels.snapshotDigest(id, halves));
        vm.expectEmit(address(channels));
        emit IChannels.Submitted(id, half(3, 10), half(4, 20), _in(1 days));
        vm.prank(alice);
        channels.submit(params, halves, "", "", "", sigB, 0, "");
        isIn(IChannels.Phase.Closing);
        _holds(half(3, 10), half(4, 20));
    }

    function test_submit_of_nothing_signed_returns_the_deposits() public {
        vm.prank(bob);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        skip(1 days);
        settle();
        paidOut(1000, 500);
    }

    function test_submit_by_a_stranger_is_refused_without_a_close() public {
        IChannels.Halves memory halves = halvesOf(3, 10, 4, 20);
        bytes memory reason = abi.encodeWithSelector(IChannels.NotAuthorisedToClose.selector, STRANGER);
        refusedSubmit(reason, STRANGER, halves);
        refusedSubmit(reason, STRANGER, zero());
    }

    function _byStranger(bytes memory reason, uint64 until, bytes memory closeSig) private {
        vm.prank(STRANGER);
        if (reason.length != 0) vm.expectRevert(reason);
        channels.submit(params, zero(), "", "", "", "", until, closeSig);
    }

    function test_submit_by_a_stranger_works_with_the_close_of_either_signer() public {
        bytes memory nobody = abi.encodeWithSelector(IChannels.NotAuthorisedToClose.selector, STRANGER);
        uint64 until = _in(0);
        bytes32 digest = channels.closeDigest(id, until);
        bytes memory close = sign(KEY_A, digest);
        _byStranger(nobody, until, sign(0x57A, digest));
        _byStranger(nobody, until, highS(KEY_A, digest));
        _byStranger(nobody, until, new bytes(65));
        _byStranger(nobody, until + 1, close);
        _byStranger(nobody, until, sign(KEY_A, channels.coopDigest(id, 0, 0, 0, until)));
        uint256 snapshot = vm.snapshotState();
        _byStranger("", until, close);
        isIn(IChannels.Phase.Closing);
        vm.revertToState(snapshot);
        _byStranger("", until, sign(KEY_B, digest));
        vm.revertToState(snapshot);
        skip(1);
        _byStranger(abi.encodeWithSelector(IChannels.Expired.selector, until), until, close);
    }

    function test_submit_refuses_what_both_did_not_sign() public {
        IChannels.Halves memory halves = halvesOf(3, 10, 4, 20);
        bytes32 digest = channels.snapshotDigest(id, halves);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        bytes memory notA = abi.encodeWithSelector(IChannels.SignatureInvalid.selector, alice);
        bytes memory notB = abi.encodeWithSelector(IChannels.SignatureInvalid.selector, bob);
        bytes[2][6] memory wrong = [
            [a, bytes("")],
            [a, a],
            [a, new bytes(65)],
            [a, highS(KEY_B, digest)],
            [a, bytes.concat(b, "0")],
            [a, sign(KEY_B, channels.closeDigest(id, 1))]
        ];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.prank(alice);
            vm.expectRevert(notB);
            channels.submit(params, halves, "", "", wrong[i][0], wrong[i][1], 0, "");
        }
        vm.prank(bob);
        vm.expectRevert(notA);
        channels.submit(params, halves, "", "", "", b, 0, "");
        // One field changed at a time.
        for (uint256 i = 0; i < 4; ++i) {
            IChannels.Halves memory other = halvesOf(3, 10, 4, 20);
            if (i == 0) ++other.a.version;
            if (i == 1) ++other.a.paid;
            if (i == 2) ++other.b.version;
            if (i == 3) ++other.b.paid;
            vm.prank(bob);
            vm.expectRevert(notA);
            channels.submit(params, other, "", "", a, b, 0, "");
        }
    }

    function test_submit_refuses_a_channel_that_is_not_there() public {
        IChannels.Params memory p = params;
        ++p.salt;
        use(p);
        refusedSubmit(abi.encodeWithSelector(IChannels.ChannelNotOpen.selector, id), alice, zero());
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelNotOpen.selector, id));
        settle();
        fund(1, 0);
        cooperate(1, 0);
        refusedSubmit(abi.encodeWithSelector(IChannels.ChannelClosed.selector, id), alice, zero());
    }

    function test_an_id_never_lives_again() public {
        submitBy(alice, halvesOf(3, 10, 4, 20));
        skip(1 days);
        settle();
        bytes memory closed = abi.encodeWithSelector(IChannels.ChannelClosed.selector, id);
        refusedSubmit(closed, alice, halvesOf(9, 10, 9, 20));
        vm.expectRevert(closed);
        settle();
        vm.expectRevert(closed);
        vm.prank(alice);
        channels.deposit{value: 1}(params, false, 1);
    }

    function test_a_challenge_in_the_last_second_counts_and_one_later_does_not() public {
        submitBy(alice, halvesOf(3, 10, 4, 20));
        uint64 deadline = _in(1 days);
        skip(1 days - 1);
        vm.expectRevert(abi.encodeWithSelector(IChannels.DeadlineNotPassed.selector, deadline));
        settle();
        submitBy(STRANGER, halvesOf(3, 10, 5, 25));
        vm.assertEq(uint256(channels.dispute(id).deadline), deadline);
        skip(1);
        refusedSubmit(abi.encodeWithSelector(IChannels.DeadlinePassed.selector, deadline), bob, halvesOf(9, 10, 9, 30));
        settle();
        paidOut(1000 - 10 + 25, 500 + 10 - 25);
    }

    function test_the_deadline_is_never_extended() public {
        submitBy(alice, halvesOf(1, 0, 1, 0));
        uint64 deadline = channels.dispute(id).deadline;
        for (uint64 i = 2; i < 12; ++i) {
            skip(2 hours);
            submitBy(i % 2 == 0 ? alice : bob, halvesOf(i, i, i, 0));
            vm.assertEq(uint256(channels.dispute(id).deadline), deadline);
        }
    }

    // ------------------------------------------------------------------------------------------------ merge

    /// @dev A cheater merges first what a challenge brings in part: the challenge still stands.
    function test_a_challenge_cannot_be_front_run() public {
        bytes memory list = lock(PREIMAGE, 7, _in(1 hours));
        submitBy(bob, halvesOf(1, 50, 1, 0));
        IChannels.Halves memory answer = IChannels.Halves(half(5, 60, list), half(8, 400));
        // Bob's half A of the same version arrives a moment earlier, by another snapshot.
        submitBy(bob, IChannels.Halves(half(5, 60, list), half(2, 1)), list, "");
        submitBy(alice, answer, list, "");
        _holds(half(5, 60, list), half(8, 400));
        refusedSubmit(abi.encodeWithSelector(IChannels.NothingNewer.selector, 5, 8), alice, answer, list, "");
    }

    function test_both_sides_closing_in_one_block_merge() public {
        submitBy(bob, halvesOf(9, 100, 2, 10));
        submitBy(alice, halvesOf(7, 90, 5, 40));
        _holds(half(9, 100), half(5, 40));
        // A bare close that comes second has nothing to add.
        refusedSubmit(abi.encodeWithSelector(IChannels.NothingNewer.selector, 9, 5), alice, zero());
    }

    /// @dev The newest halves win in any order of submits, and the payout is the same.
    function testFuzz_the_newest_halves_win_in_any_order(uint256 seed) public {
        IChannels.Halves[5] memory snapshots;
        (IChannels.Half memory bestA, IChannels.Half memory bestB) = (half(0, 0), half(0, 0));
        for (uint256 i = 0; i < 5; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            // Paid grows with the version, as it does for who is honest.
            (uint64 va, uint64 vb) = (uint64(bound(seed, 0, 6)), uint64(bound(seed >> 64, 0, 6)));
            snapshots[i] = halvesOf(va, uint112(va) * 31, vb, uint112(vb) * 17);
            if (va > bestA.version) bestA = snapshots[i].a;
            if (vb > bestB.version) bestB = snapshots[i].b;
        }
        for (uint256 i = 5; i > 0; --i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 pick = seed % i;
            IChannels.Halves memory next = snapshots[pick];
            snapshots[pick] = snapshots[i - 1];
            _submitIfNewer(seed & (1 << 200) == 0 ? alice : bob, next);
        }
        _holds(bestA, bestB);
        skip(1 days);
        settle();
        paidOut(1000 - bestA.paid + bestB.paid, 500 + bestA.paid - bestB.paid);
    }

    function _submitIfNewer(address sender, IChannels.Halves memory next) private {
        IChannels.Dispute memory d = channels.dispute(id);
        bool newer = next.a.version > d.halves.a.version || next.b.version > d.halves.b.version;
        if (newer || d.deadline == 0) {
            submitBy(sender, next);
        } else {
            bytes4 selector = IChannels.NothingNewer.selector;
            refusedSubmit(abi.encodeWithSelector(selector, d.halves.a.version, d.halves.b.version), sender, next);
        }
    }

    function test_version_0_is_the_zero_half() public {
        refusedSubmit(_selector(IChannels.ZeroHalfNotEmpty.selector), alice, halvesOf(0, 1, 1, 0));
        refusedSubmit(_selector(IChannels.ZeroHalfNotEmpty.selector), alice, halvesOf(1, 0, 0, 1));
        IChannels.Halves memory halves = zero();
        halves.b.locks = bytes32(uint256(1));
        refusedSubmit(_selector(IChannels.ZeroHalfNotEmpty.selector), bob, halves);
    }

    // ------------------------------------------------------------------------------------------------ lists

    function test_submit_refuses_a_hidden_or_wrong_list() public {
        bytes memory list = lock(PREIMAGE, 7, _in(1 hours));
        bytes32 root = keccak256(list);
        IChannels.Halves memory halves = IChannels.Halves(half(2, 0, list), half(1, 0));
        bytes4 selector = IChannels.ListMismatch.selector;
        refusedSubmit(abi.encodeWithSelector(selector, root, bytes32(0)), alice, halves);
        bytes memory other = lock(PREIMAGE, 8, _in(1 hours));
        refusedSubmit(abi.encodeWithSelector(selector, root, keccak256(other)), alice, halves, other, "");
        refusedSubmit(abi.encodeWithSelector(selector, bytes32(0), root), alice, halves, list, list);
        vm.expectEmit(address(channels));
        emit IChannels.LocksSubmitted(id, false, list);
        submitBy(alice, halves, list, "");
        halves = IChannels.Halves(half(2, 0, list), half(3, 0, list));
        refusedSubmit(abi.encodeWithSelector(selector, root, bytes32(0)), alice, halves, list, "");
        vm.expectEmit(address(channels));
        emit IChannels.LocksSubmitted(id, true, list);
        submitBy(alice, halves, "", list);
    }

    function _refusedList(bytes memory reason, bytes memory list) private {
        refusedSubmit(reason, alice, IChannels.Halves(half(1, 0), half(2, 0, list)), "", list);
        refusedSubmit(reason, bob, IChannels.Halves(half(2, 0, list), half(1, 0)), list, "");
    }

    function test_submit_refuses_lists_that_could_freeze_the_pot() public {
        uint64 latest = _in(2 days);
        bytes memory sound = lock(PREIMAGE, 2 ** 100 - 1, latest);
        _refusedList(
            abi.encodeWithSelector(IChannels.LockAmountTooLarge.selector, 1, 2 ** 100),
            bytes.concat(sound, lock(OTHER, 2 ** 100, latest))
        );
        bytes4 selector = IChannels.LockExpiryTooLate.selector;
        _refusedList(abi.encodeWithSelector(selector, 0, latest, latest + 1), lock(PREIMAGE, 1, latest + 1));
        _refusedList(abi.encodeWithSelector(selector, 1, latest, NEVER), bytes.concat(sound, lock(PREIMAGE, 1, NEVER)));
        _refusedList(abi.encodeWithSelector(IChannels.ListLength.selector, 57), bytes.concat(sound, hex"00"));
        _refusedList(abi.encodeWithSelector(IChannels.ListLength.selector, 1), hex"00");
        submitBy(alice, IChannels.Halves(half(2, 0, sound), half(1, 0)), sound, "");
        // Later submits are measured by the deadline that there is.
        skip(1 hours);
        IChannels.Halves memory later = IChannels.Halves(half(2, 0, sound), half(2, 0, sound));
        submitBy(bob, later, "", sound);
    }

    function test_submit_takes_200_locks_and_no_more() public {
        bytes memory list;
        for (uint256 i = 0; i < 200; ++i) {
            list = bytes.concat(list, lock(bytes32(i), 1, _in(1 hours)));
        }
        bytes memory longer = bytes.concat(list, lock(OTHER, 1, _in(1 hours)));
        _refusedList(abi.encodeWithSelector(IChannels.TooManyLocks.selector, 200, 201), longer);
        submitBy(alice, IChannels.Halves(half(2, 0, list), half(1, 0)), list, "");
        skip(1 days);
        channels.settle(params, list, "");
        paidOut(1000, 500);
    }

    /// @dev A half whose list another submit brought: the list of an older half is not looked at.
    function test_locks_come_and_go_with_the_halves() public {
        bytes memory list = lock(PREIMAGE, 7, _in(1 hours));
        submitBy(bob, IChannels.Halves(half(2, 0, list), half(2, 0, list)), list, list);
        submitBy(bob, IChannels.Halves(half(3, 7), half(2, 0, list)), "", "not looked at");
        _holds(half(3, 7), half(2, 0, list));
        submitBy(bob, IChannels.Halves(half(3, 7), half(4, 0)), "not looked at", "");
        _holds(half(3, 7), half(4, 0));
        skip(1 days);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ListMismatch.selector, bytes32(0), keccak256(list)));
        channels.settle(params, list, "");
        settle();
        paidOut(993, 507);
    }

    // ------------------------------------------------------------------------------------------------ settle

    function test_settle_needs_a_dispute_and_its_lists() public {
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelNotClosing.selector, id));
        settle();
        bytes memory list = lock(PREIMAGE, 7, _in(1 hours));
        submitBy(alice, IChannels.Halves(half(2, 0, list), half(1, 0)), list, "");
        skip(1 days);
        bytes4 selector = IChannels.ListMismatch.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, keccak256(list), bytes32(0)));
        settle();
        vm.expectRevert(abi.encodeWithSelector(selector, keccak256(list), bytes32(0)));
        channels.settle(params, "", list);
        vm.expectRevert(abi.encodeWithSelector(selector, bytes32(0), keccak256(list)));
        channels.settle(params, list, list);
        vm.expectEmit(address(channels));
        emit IChannels.Settled(id, 1000, 500);
        vm.prank(STRANGER);
        channels.settle(params, list, "");
    }

    /// @dev A preimage at T − 1, at T, and at T + 1.
    function test_a_lock_is_won_up_to_its_expiry_and_dead_after() public {
        for (uint256 late = 0; late < 3; ++late) {
            uint256 snapshot = vm.snapshotState();
            bytes memory list = lock(PREIMAGE, 70, _in(1 hours));
            submitBy(alice, IChannels.Halves(half(2, 0, list), half(1, 0)), list, "");
            skip(1 hours - 1 + late);
            reveal(PREIMAGE);
            skip(1 days);
            channels.settle(params, list, "");
            if (late < 2) paidOut(930, 570);
            else paidOut(1000, 500);
            vm.revertToState(snapshot);
        }
    }

    function test_settle_waits_for_a_lock_that_can_still_be_won() public {
        uint64 expiry = _in(1 days + 5 hours);
        bytes memory list = lock(PREIMAGE, 70, expiry);
        submitBy(alice, IChannels.Halves(half(2, 0), half(1, 0, list)), "", list);
        vm.warp(expiry);
        vm.expectRevert(abi.encodeWithSelector(IChannels.LockPending.selector, sha256(abi.encode(PREIMAGE)), expiry));
        channels.settle(params, "", list);
        uint256 snapshot = vm.snapshotState();
        reveal(PREIMAGE);
        channels.settle(params, "", list); // certain as soon as it is won
        paidOut(1070, 430);
        vm.revertToState(snapshot);
        skip(1);
        channels.settle(params, "", list);
        paidOut(1000, 500);
    }

    function test_one_preimage_wins_every_lock_with_its_hash_that_is_in_time() public {
        bytes memory listA = bytes.concat(lock(PREIMAGE, 1, _in(1 hours)), lock(PREIMAGE, 2, _in(3 hours)));
        bytes memory listB = bytes.concat(lock(OTHER, 100, _in(3 hours)), lock(PREIMAGE, 40, _in(3 hours)));
        submitBy(alice, IChannels.Halves(half(2, 10, listA), half(1, 20, listB)), listA, listB);
        skip(2 hours);
        reveal(PREIMAGE);
        skip(1 days);
        channels.settle(params, listA, listB);
        // The first was dead by then, the other hash was never seen.
        paidOut(1000 - 10 + 20 - 2 + 40, 500 + 10 - 20 + 2 - 40);
    }

    function test_what_was_signed_beyond_the_pot_is_cut_to_it() public {
        uint112 most = type(uint112).max;
        uint256 snapshot = vm.snapshotState();
        submitBy(alice, halvesOf(NEVER, most, 1, 0));
        skip(1 days);
        settle();
        paidOut(0, 1500);
        vm.revertToState(snapshot);
        submitBy(alice, halvesOf(1, 0, NEVER, most));
        skip(1 days);
        settle();
        paidOut(1500, 0);
        vm.revertToState(snapshot);
        submitBy(alice, halvesOf(NEVER, most, NEVER, most));
        skip(1 days);
        settle();
        paidOut(1000, 500);
    }

    /// @dev Whatever submit accepts, anybody can settle by deadline + 1 day and a second, from events alone.
    function testFuzz_what_was_submitted_can_be_settled_by_anybody(uint256 seed) public {
        bytes[2] memory lists;
        uint256 won = 0;
        uint256[2] memory sums;
        for (uint256 i = 0; i < 6; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint64 expiry = uint64(bound(seed >> 16, 0, now_() + 2 days));
            uint128 amount = uint128(bound(seed >> 80, 0, seed % 4 == 0 ? 2 ** 100 - 1 : 300));
            bytes32 preimage = bytes32(seed);
            lists[i % 2] = bytes.concat(lists[i % 2], lock(preimage, amount, expiry));
            if (seed & 8 != 0) {
                reveal(preimage);
                ++won;
                if (now_() <= expiry) sums[i % 2] += amount;
            }
        }
        uint112 paidA = uint112(bound(seed >> 9, 0, 2000));
        submitBy(alice, IChannels.Halves(half(2, paidA, lists[0]), half(1, 0, lists[1])), lists[0], lists[1]);
        vm.warp(uint256(channels.dispute(id).deadline) + 1 days + 1);
        vm.prank(STRANGER);
        channels.settle(params, lists[0], lists[1]);
        int256 a = int256(1000) - int256(uint256(paidA)) + int256(sums[1]) - int256(sums[0]);
        uint256 expected = a < 0 ? 0 : a > 1500 ? 1500 : uint256(a);
        paidOut(expected, 1500 - expected);
        vm.assertEq(address(channels).balance, 0);
    }
}
