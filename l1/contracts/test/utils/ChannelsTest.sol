// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./Test.sol";
import {Channels} from "../../src/Channels.sol";
import {IChannels} from "../../src/interfaces/IChannels.sol";
import {TestToken} from "../mocks/Tokens.sol";

/// @title A channel between Alice and Bob, and what they sign
abstract contract ChannelsTest is Test {
    uint256 internal constant KEY_A = 0xA11CE;
    uint256 internal constant KEY_B = 0xB0B;
    address internal constant COLD_A = address(0xC01DA);
    address internal constant COLD_B = address(0xC01DB);
    address internal constant STRANGER = address(0x57A);
    uint64 internal constant NEVER = type(uint64).max;
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    Channels internal channels;
    address internal alice;
    address internal bob;
    IChannels.Params internal params;
    bytes32 internal id;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        channels = new Channels();
        (alice, bob) = (vm.addr(KEY_A), vm.addr(KEY_B));
        vm.deal(alice, 1e36);
        vm.deal(bob, 1e36);
        vm.deal(STRANGER, 1e36);
        use(IChannels.Params(alice, COLD_A, bob, COLD_B, address(0), 1 days, 1));
    }

    /// @dev The channel that the helpers below are about.
    function use(IChannels.Params memory params_) internal {
        params = params_;
        id = channels.channelId(params);
    }

    function useToken(TestToken token) internal {
        IChannels.Params memory p = params;
        p.token = address(token);
        use(p);
        address[3] memory payers = [alice, bob, STRANGER];
        for (uint256 i = 0; i < 3; ++i) {
            token.mint(payers[i], 1 << 120);
            vm.prank(payers[i]);
            token.approve(address(channels), type(uint256).max);
        }
    }

    // ------------------------------------------------------------------------------------------------ money

    function fund(uint256 a, uint256 b) internal {
        if (a != 0) depositBy(alice, false, a);
        if (b != 0) depositBy(bob, true, b);
    }

    function depositBy(address payer, bool sideB, uint256 amount) internal {
        vm.prank(payer);
        channels.deposit{value: params.token == address(0) ? amount : 0}(params, sideB, amount);
    }

    function held(address account) internal view returns (uint256) {
        return params.token == address(0) ? account.balance : TestToken(params.token).balanceOf(account);
    }

    function paidOut(uint256 a, uint256 b) internal view {
        vm.assertEq(held(COLD_A), a, "A was paid");
        vm.assertEq(held(COLD_B), b, "B was paid");
    }

    function isIn(IChannels.Phase phase) internal view {
        vm.assertEq(uint256(channels.channel(id).phase), uint256(phase), "phase");
    }

    // ------------------------------------------------------------------------------------------------ signatures

    function sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The same signature with s in the upper half, which ecrecover takes.
    function highS(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
    }

    function cooperate(uint112 payA, uint112 payB) internal {
        bytes32 digest = channels.coopDigest(id, channels.channel(id).epoch, payA, payB, NEVER);
        channels.cooperate(params, payA, payB, NEVER, sign(KEY_A, digest), sign(KEY_B, digest));
    }

    // ------------------------------------------------------------------------------------------------ disputes

    function half(uint64 version, uint112 paid) internal pure returns (IChannels.Half memory) {
        return IChannels.Half(version, paid, 0);
    }

    function half(uint64 version, uint112 paid, bytes memory list) internal pure returns (IChannels.Half memory) {
        return IChannels.Half(version, paid, list.length == 0 ? bytes32(0) : keccak256(list));
    }

    function zero() internal pure returns (IChannels.Halves memory halves) {}

    function halvesOf(uint64 versionA, uint112 paidA, uint64 versionB, uint112 paidB)
        internal
        pure
        returns (IChannels.Halves memory)
    {
        return IChannels.Halves(half(versionA, paidA), half(versionB, paidB));
    }

    function lock(bytes32 preimage, uint128 amount, uint64 expiry) internal pure returns (bytes memory) {
        return abi.encodePacked(sha256(abi.encode(preimage)), amount, expiry);
    }

    function submitBy(address sender, IChannels.Halves memory halves) internal {
        submitBy(sender, halves, "", "");
    }

    function submitBy(address sender, IChannels.Halves memory halves, bytes memory listA, bytes memory listB) internal {
        bytes32 digest = channels.snapshotDigest(id, halves);
        (bytes memory sigA, bytes memory sigB) = (sign(KEY_A, digest), sign(KEY_B, digest));
        vm.prank(sender);
        channels.submit(params, halves, listA, listB, sigA, sigB, 0, "");
    }

    function refusedSubmit(
        bytes memory reason,
        address sender,
        IChannels.Halves memory halves,
        bytes memory listA,
        bytes memory listB
    ) internal {
        bytes32 digest = channels.snapshotDigest(id, halves);
        (bytes memory sigA, bytes memory sigB) = (sign(KEY_A, digest), sign(KEY_B, digest));
        vm.prank(sender);
        vm.expectRevert(reason);
        channels.submit(params, halves, listA, listB, sigA, sigB, 0, "");
    }

    function refusedSubmit(bytes memory reason, address sender, IChannels.Halves memory halves) internal {
        refusedSubmit(reason, sender, halves, "", "");
    }

    function settle() internal {
        channels.settle(params, "", "");
    }

    function reveal(bytes32 preimage) internal {
        bytes32[] memory preimages = new bytes32[](1);
        preimages[0] = preimage;
        channels.reveal(preimages);
    }
}
