// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsTest} from "./utils/ChannelsTest.sol";
import {Channels} from "../src/Channels.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";

/// @title Deposits, cooperative payouts and the registry of preimages
contract ChannelsMoneyTest is ChannelsTest {
    uint256 private constant MAX_POT = 2 ** 100 - 1;

    // ------------------------------------------------------------------------------------------------ deposit

    function test_deposit_opens_and_adds() public {
        isIn(IChannels.Phase.None);
        vm.expectEmit(address(channels));
        emit IChannels.Deposited(id, alice, bob, COLD_A, COLD_B, address(0), 1 days, 1, false, 10, 10, 0);
        depositBy(alice, false, 10);
        isIn(IChannels.Phase.Open);
        vm.expectEmit(address(channels));
        emit IChannels.Deposited(id, alice, bob, COLD_A, COLD_B, address(0), 1 days, 1, true, 5, 10, 5);
        depositBy(STRANGER, true, 5);
        IChannels.Channel memory c = channels.channel(id);
        vm.assertEq(c.netA, 10);
        vm.assertEq(c.netB, 5);
        vm.assertEq(uint256(c.epoch), 0);
        vm.assertEq(address(channels).balance, 15);
        vm.assertEq(uint256(channels.dispute(id).deadline), 0);
    }

    function _refusedDeposit(bytes memory reason, uint256 value, uint256 amount) private {
        vm.expectRevert(reason);
        vm.prank(alice);
        channels.deposit{value: value}(params, false, amount);
    }

    function _refusedParams(IChannels.Params memory p, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(alice);
        channels.deposit{value: 1}(p, false, 1);
    }

    function test_deposit_refuses_parameters_that_trap_money() public {
        IChannels.Params memory p = params;
        p.signerA = address(0);
        _refusedParams(p, abi.encodeWithSelector(IChannels.SignerIsZero.selector));
        (p.signerA, p.signerB) = (alice, address(0));
        _refusedParams(p, abi.encodeWithSelector(IChannels.SignerIsZero.selector));
        p.signerB = alice;
        _refusedParams(p, abi.encodeWithSelector(IChannels.SignersEqual.selector, alice));
        (p.signerB, p.payoutA) = (bob, address(0));
        _refusedParams(p, abi.encodeWithSelector(IChannels.PayoutIsZero.selector));
        (p.payoutA, p.payoutB) = (COLD_A, address(0));
        _refusedParams(p, abi.encodeWithSelector(IChannels.PayoutIsZero.selector));
        p.payoutB = address(channels);
        _refusedParams(p, abi.encodeWithSelector(IChannels.PayoutIsChannels.selector));
        (p.payoutB, p.payoutA) = (COLD_B, address(channels));
        _refusedParams(p, abi.encodeWithSelector(IChannels.PayoutIsChannels.selector));
    }

    function test_deposit_refuses_windows_too_short_or_too_long() public {
        IChannels.Params memory p = params;
        uint32[3] memory windows = [uint32(1 hours - 1), 30 days + 1, type(uint32).max];
        for (uint256 i = 0; i < 3; ++i) {
            p.window = windows[i];
            bytes4 selector = IChannels.WindowOutOfRange.selector;
            _refusedParams(p, abi.encodeWithSelector(selector, 1 hours, 30 days, windows[i]));
        }
        p.window = 1 hours;
        use(p);
        depositBy(alice, false, 1);
        p.window = 30 days;
        use(p);
        depositBy(alice, false, 1);
    }

    function test_deposit_refuses_value_that_is_not_the_amount() public {
        _refusedDeposit(abi.encodeWithSelector(IChannels.ValueMismatch.selector, 2, 1), 1, 2);
        _refusedDeposit(abi.encodeWithSelector(IChannels.ValueMismatch.selector, 1, 2), 2, 1);
        _refusedDeposit(abi.encodeWithSelector(IChannels.AmountIsZero.selector), 0, 0);
        IChannels.Params memory p = params;
        p.token = address(0x70CE);
        use(p);
        _refusedDeposit(abi.encodeWithSelector(IChannels.ValueMismatch.selector, 0, 1), 1, 1);
    }

    function test_deposit_refuses_a_pot_beyond_its_cap() public {
        bytes4 selector = IChannels.PotTooLarge.selector;
        _refusedDeposit(abi.encodeWithSelector(selector, MAX_POT, MAX_POT + 1), MAX_POT + 1, MAX_POT + 1);
        depositBy(bob, true, MAX_POT);
        _refusedDeposit(abi.encodeWithSelector(selector, MAX_POT, 1), 1, 1);
        vm.assertEq(channels.channel(id).netB, int256(MAX_POT));
    }

    function test_deposit_is_refused_while_closing_and_after() public {
        fund(10, 10);
        vm.prank(alice);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        _refusedDeposit(abi.encodeWithSelector(IChannels.ChannelClosing.selector, id), 1, 1);
        skip(1 days);
        _refusedDeposit(abi.encodeWithSelector(IChannels.ChannelClosing.selector, id), 1, 1);
        settle();
        _refusedDeposit(abi.encodeWithSelector(IChannels.ChannelClosed.selector, id), 1, 1);
    }

    function test_deposit_refuses_dirty_words_of_the_parameters() public {
        bytes memory call_ = abi.encodeCall(channels.deposit, (params, false, 1));
        for (uint256 word = 0; word < 7; ++word) {
            bytes memory dirty = bytes.concat(call_);
            dirty[4 + 32 * word] = 0x01;
            vm.prank(alice);
            (bool ok,) = address(channels).call{value: 1}(dirty);
            vm.assertFalse(ok);
        }
        vm.prank(alice);
        (bool clean,) = address(channels).call{value: 1}(call_);
        vm.assertTrue(clean);
    }

    /// @dev A cast of 112 bits that was not checked would turn a large net into another sign.
    function testFuzz_deposits_add_up(uint256 seed) public {
        uint256[2] memory sums;
        for (uint256 i = 0; i < 6; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 room = MAX_POT - sums[0] - sums[1];
            if (room == 0) break;
            uint256 amount = bound(seed >> 8, 1, i == 5 ? room : room / 2 + 1);
            depositBy(alice, seed % 2 == 1, amount);
            sums[seed % 2] += amount;
        }
        vm.assertEq(channels.channel(id).netA, int256(sums[0]));
        vm.assertEq(channels.channel(id).netB, int256(sums[1]));
        vm.assertEq(address(channels).balance, sums[0] + sums[1]);
    }

    // ------------------------------------------------------------------------------------------------ cooperate

    function test_cooperate_pays_and_closes_once_empty() public {
        fund(10, 5);
        vm.expectEmit(address(channels));
        emit IChannels.Cooperated(id, 0, 12, 0, false);
        cooperate(12, 0);
        IChannels.Channel memory c = channels.channel(id);
        vm.assertEq(c.netA, -2); // what B had paid
        vm.assertEq(c.netB, 5);
        vm.assertEq(uint256(c.epoch), 1);
        vm.expectEmit(address(channels));
        emit IChannels.Cooperated(id, 1, 1, 2, true);
        cooperate(1, 2);
        paidOut(13, 2);
        isIn(IChannels.Phase.Closed);
        c = channels.channel(id);
        vm.assertEq(c.netA, 0);
        vm.assertEq(uint256(c.epoch), 0);
    }

    function test_cooperate_by_a_signer_needs_only_the_other_signature() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 1, 2, NEVER);
        bytes memory sigB = sign(KEY_B, digest);
        vm.prank(alice);
        channels.cooperate(params, 1, 2, NEVER, "", sigB);
        digest = channels.coopDigest(id, 1, 1, 2, NEVER);
        bytes memory sigA = sign(KEY_A, digest);
        vm.prank(bob);
        channels.cooperate(params, 1, 2, NEVER, sigA, "");
        paidOut(2, 4);
    }

    function _refusedCooperate(
        bytes memory reason,
        uint112 payA,
        uint112 payB,
        uint64 until,
        bytes memory a,
        bytes memory b
    ) private {
        vm.expectRevert(reason);
        channels.cooperate(params, payA, payB, until, a, b);
    }

    function test_cooperate_refuses_what_both_did_not_sign() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 1, 2, NEVER);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        bytes memory notA = abi.encodeWithSelector(IChannels.SignatureInvalid.selector, alice);
        bytes memory notB = abi.encodeWithSelector(IChannels.SignatureInvalid.selector, bob);
        _refusedCooperate(notA, 1, 2, NEVER, "", b);
        _refusedCooperate(notB, 1, 2, NEVER, a, "");
        _refusedCooperate(notA, 1, 2, NEVER, b, a);
        _refusedCooperate(notA, 2, 2, NEVER, a, b);
        _refusedCooperate(notA, 1, 3, NEVER, a, b);
        _refusedCooperate(notA, 1, 2, NEVER - 1, a, b);
        _refusedCooperate(notA, 1, 2, NEVER, highS(KEY_A, digest), b);
        _refusedCooperate(notB, 1, 2, NEVER, a, highS(KEY_B, digest));
        _refusedCooperate(notA, 1, 2, NEVER, new bytes(65), b);
        _refusedCooperate(notB, 1, 2, NEVER, a, bytes.concat(b, hex"00"));
        bytes memory wrongV = bytes.concat(a);
        wrongV[64] = bytes1(uint8(wrongV[64]) - 27);
        _refusedCooperate(notA, 1, 2, NEVER, wrongV, b);
        // Nor is a Close or a snapshot a Coop.
        _refusedCooperate(notA, 1, 2, NEVER, sign(KEY_A, channels.closeDigest(id, NEVER)), b);
        channels.cooperate(params, 1, 2, NEVER, a, b);
        // Once only.
        _refusedCooperate(notA, 1, 2, NEVER, a, b);
    }

    function test_cooperate_refuses_another_channels_signatures() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 1, 2, NEVER);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        IChannels.Params memory p = params;
        ++p.salt;
        use(p);
        fund(10, 5);
        _refusedCooperate(abi.encodeWithSelector(IChannels.SignatureInvalid.selector, alice), 1, 2, NEVER, a, b);
        Channels other = new Channels();
        vm.assertTrue(other.channelId(params) != id);
        vm.chainId(5);
        other = new Channels();
        vm.assertTrue(other.channelId(params) != id);
    }

    function test_cooperate_refuses_after_its_time() public {
        fund(10, 5);
        uint64 until = uint64(now_());
        bytes32 digest = channels.coopDigest(id, 0, 1, 2, until);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        uint256 snapshot = vm.snapshotState();
        channels.cooperate(params, 1, 2, until, a, b);
        vm.revertToState(snapshot);
        skip(1);
        _refusedCooperate(abi.encodeWithSelector(IChannels.Expired.selector, until), 1, 2, until, a, b);
    }

    function test_cooperate_refuses_more_than_the_pot() public {
        fund(10, 5);
        uint112 most = type(uint112).max;
        uint112[2][4] memory pays = [[uint112(16), 0], [uint112(0), 16], [most, most], [most, 0]];
        for (uint256 i = 0; i < 4; ++i) {
            (uint112 a, uint112 b) = (pays[i][0], pays[i][1]);
            bytes32 digest = channels.coopDigest(id, 0, a, b, NEVER);
            bytes memory reason = abi.encodeWithSelector(IChannels.Overdrawn.selector, 15, uint256(a) + b);
            _refusedCooperate(reason, a, b, NEVER, sign(KEY_A, digest), sign(KEY_B, digest));
        }
    }

    function test_cooperate_refuses_a_channel_that_is_not_there() public {
        bytes32 digest = channels.coopDigest(id, 0, 0, 0, NEVER);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        _refusedCooperate(abi.encodeWithSelector(IChannels.ChannelNotOpen.selector, id), 0, 0, NEVER, a, b);
        fund(1, 0);
        cooperate(1, 0);
        _refusedCooperate(abi.encodeWithSelector(IChannels.ChannelClosed.selector, id), 0, 0, NEVER, a, b);
    }

    /// @dev A payout of nothing makes an earlier one that was signed and not sent void.
    function test_cooperate_with_nothing_cancels_what_was_signed_before() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 10, 5, NEVER);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        cooperate(0, 0);
        isIn(IChannels.Phase.Open);
        _refusedCooperate(abi.encodeWithSelector(IChannels.SignatureInvalid.selector, alice), 10, 5, NEVER, a, b);
    }

    function test_one_wei_in_the_way_of_a_close_changes_nothing_for_the_sides() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 8, 7, NEVER);
        (bytes memory a, bytes memory b) = (sign(KEY_A, digest), sign(KEY_B, digest));
        depositBy(STRANGER, true, 1);
        channels.cooperate(params, 8, 7, NEVER, a, b);
        paidOut(8, 7);
        isIn(IChannels.Phase.Open);
        // The wei is still theirs.
        cooperate(0, 1);
        paidOut(8, 8);
        isIn(IChannels.Phase.Closed);
    }

    function test_cooperate_keeps_a_dispute_going_and_ends_it_once_empty() public {
        fund(100, 50);
        bytes memory list = lock("x", 10, uint64(now_() + 1 hours));
        submitBy(alice, IChannels.Halves(half(3, 20, list), half(2, 5, list)), list, list);
        cooperate(40, 10);
        isIn(IChannels.Phase.Closing);
        vm.assertEq(uint256(channels.channel(id).epoch), 1);
        skip(2 days);
        cooperate(60, 40); // raced with settle: the first one wins
        paidOut(100, 50);
        isIn(IChannels.Phase.Closed);
        IChannels.Dispute memory d = channels.dispute(id);
        vm.assertEq(uint256(d.deadline) + d.halves.a.version + d.halves.b.paid, 0);
        vm.assertEq(d.halves.a.locks | d.halves.b.locks, 0);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosed.selector, id));
        channels.settle(params, list, list);
    }

    function test_cooperate_after_settle_is_refused() public {
        fund(10, 5);
        bytes32 digest = channels.coopDigest(id, 0, 10, 5, NEVER);
        vm.prank(bob);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        skip(1 days);
        settle();
        bytes memory reason = abi.encodeWithSelector(IChannels.ChannelClosed.selector, id);
        _refusedCooperate(reason, 10, 5, NEVER, sign(KEY_A, digest), sign(KEY_B, digest));
        paidOut(10, 5);
    }

    /// @dev The state's slot: netA (112) | netB (112) | epoch (32), in the first mapping.
    function _writeState(int112 netA, int112 netB, uint32 epoch) private {
        bytes32 slot = keccak256(abi.encode(id, uint256(0)));
        uint256 word = uint256(uint112(netA)) | (uint256(uint112(netB)) << 112) | (uint256(epoch) << 224);
        vm.store(address(channels), slot, bytes32(word));
    }

    function test_epochs_end_before_they_mean_closed() public {
        fund(10, 5);
        uint32 last = 2 ** 31 - 2;
        _writeState(10, 5, last - 1);
        cooperate(1, 0);
        vm.assertEq(uint256(channels.channel(id).epoch), last);
        isIn(IChannels.Phase.Open);
        bytes32 digest = channels.coopDigest(id, last, 1, 0, NEVER);
        bytes memory reason = abi.encodeWithSelector(IChannels.EpochsExhausted.selector);
        _refusedCooperate(reason, 1, 0, NEVER, sign(KEY_A, digest), sign(KEY_B, digest));
        // It can still be closed, alone or together.
        uint256 snapshot = vm.snapshotState();
        cooperate(9, 5);
        isIn(IChannels.Phase.Closed);
        vm.revertToState(snapshot);
        vm.prank(alice);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        isIn(IChannels.Phase.Closing);
        vm.assertEq(uint256(channels.channel(id).epoch), last);
        _refusedCooperate(reason, 1, 0, NEVER, sign(KEY_A, digest), sign(KEY_B, digest));
        skip(1 days);
        settle();
        paidOut(10, 5);
    }

    function test_nets_that_do_not_fit_are_refused_not_cut() public {
        fund(10, 5);
        int112 most = type(int112).max;
        _writeState(-most + 9, most, 7);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NetOutOfRange.selector, int256(most) + 1));
        vm.prank(alice);
        channels.deposit{value: 1}(params, true, 1);
        // A takes out what B's net brings in, down to the least that the counter holds, and no further.
        int112 least = type(int112).min;
        _writeState(least + 3, most, 7);
        vm.assertEq(channels.channel(id).netA + channels.channel(id).netB, 2);
        channels.cooperate(params, 1, 0, NEVER, _coop(KEY_A, 7, 1), _coop(KEY_B, 7, 1));
        vm.assertEq(channels.channel(id).netA, least + 2);
    }

    function _coop(uint256 key, uint32 epoch, uint112 payA) private view returns (bytes memory) {
        return sign(key, channels.coopDigest(id, epoch, payA, 0, NEVER));
    }

    // ------------------------------------------------------------------------------------------------ reveal

    function test_reveal_keeps_the_first_time_and_never_reverts() public {
        bytes32[] memory preimages = new bytes32[](3);
        (preimages[0], preimages[1], preimages[2]) = ("one", "two", "one");
        vm.expectEmit(address(channels));
        emit IChannels.Revealed(sha256(abi.encode(bytes32("one"))), "one");
        channels.reveal(preimages);
        uint256 first = now_();
        skip(100);
        preimages[1] = "three";
        channels.reveal(preimages); // front-run in part
        vm.assertEq(channels.revealedAt(sha256(abi.encode(bytes32("one")))), first);
        vm.assertEq(channels.revealedAt(sha256(abi.encode(bytes32("two")))), first);
        vm.assertEq(channels.revealedAt(sha256(abi.encode(bytes32("three")))), first + 100);
        vm.assertEq(channels.revealedAt(bytes32("one")), 0);
        channels.reveal(new bytes32[](0));
    }

    function test_the_contract_takes_no_other_money() public {
        vm.prank(alice);
        (bool ok,) = address(channels).call{value: 1}("");
        vm.assertFalse(ok);
        vm.prank(alice);
        (ok,) = address(channels).call{value: 1}(abi.encodeCall(channels.settle, (params, "", "")));
        vm.assertFalse(ok);
    }

    /// @dev Nobody can change anything but by the functions above.
    function test_there_is_no_administrator() public {
        string[6] memory names =
            ["owner()", "pause()", "upgradeTo(address)", "withdraw(uint256)", "transferOwnership(address)", "admin()"];
        for (uint256 i = 0; i < names.length; ++i) {
            (bool ok,) = address(channels).call(abi.encodeWithSignature(names[i]));
            vm.assertFalse(ok);
        }
    }
}
