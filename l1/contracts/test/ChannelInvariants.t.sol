// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsTest} from "./utils/ChannelsTest.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";
import {TestToken} from "./mocks/Tokens.sol";
import {Test} from "./utils/Test.sol";

/// @dev A cold wallet that takes ETH or not, as told.
contract Moody {
    bool private refuses;

    function turn() external {
        refuses = !refuses;
    }

    receive() external payable {
        require(!refuses, "no");
    }
}

/// @title Four channels, two of ETH and two of a token, with one cold wallet that turns; at random, beside a ledger
contract ChannelsHandler is ChannelsTest {
    struct Ledger {
        IChannels.Params params;
        uint256 pot;
        bool opened;
        bool buried;
        uint64 deadline;
        IChannels.Half[2] best;
        bytes[2] lists;
    }

    uint256 private constant COUNT = 4;
    Ledger[COUNT] private ledgers;
    TestToken public token;
    Moody public moody;
    uint256 private preimages;
    /// @dev In ETH and in the token.
    uint256[2] public deposited;
    uint256[2] public paid;
    bool public broken;
    string public what;

    constructor() {
        setUp();
        token = new TestToken();
        moody = new Moody();
        useToken(token);
        for (uint256 i = 0; i < COUNT; ++i) {
            ledgers[i].params = IChannels.Params(
                alice, COLD_A, bob, address(moody), i < 2 ? address(0) : address(token), 1 hours, uint64(i)
            );
        }
    }

    function held(uint256 t) public view returns (uint256) {
        return t == 0 ? address(channels).balance : token.balanceOf(address(channels));
    }

    function pots(uint256 t) public view returns (uint256 sum) {
        for (uint256 i = 2 * t; i < 2 * t + 2; ++i) {
            IChannels.Channel memory c = channels.channel(channels.channelId(ledgers[i].params));
            sum += uint256(int256(c.netA) + c.netB);
        }
    }

    function claimable(uint256 t) public view returns (uint256) {
        address asset = t == 0 ? address(0) : address(token);
        return channels.claimable(asset, COLD_A) + channels.claimable(asset, address(moody));
    }

    function phases() external view returns (bool) {
        for (uint256 i = 0; i < COUNT; ++i) {
            Ledger storage l = ledgers[i];
            IChannels.Phase phase = channels.channel(channels.channelId(l.params)).phase;
            IChannels.Phase expected = l.buried
                ? IChannels.Phase.Closed
                : l.deadline != 0 ? IChannels.Phase.Closing : l.opened ? IChannels.Phase.Open : IChannels.Phase.None;
            if (phase != expected) return false;
        }
        return true;
    }

    function _fail(string memory why) private {
        (broken, what) = (true, why);
    }

    function _select(uint256 seed) private returns (Ledger storage l, uint256 t) {
        l = ledgers[seed % COUNT];
        use(l.params);
        t = seed % COUNT / 2;
    }

    function depositSome(uint256 seed) external {
        (Ledger storage l, uint256 t) = _select(seed);
        uint256 amount = bound(seed >> 16, 1, 1e18);
        vm.prank(seed & 4 == 0 ? alice : STRANGER);
        try channels.deposit{value: t == 0 ? amount : 0}(params, seed & 8 == 0, amount) {
            if (l.buried || l.deadline != 0) _fail("deposit into a closing or closed channel");
            l.pot += amount;
            l.opened = true;
            deposited[t] += amount;
        } catch {
            if (!l.buried && l.deadline == 0) _fail("deposit refused");
        }
    }

    function cooperateSome(uint256 seed) external {
        (Ledger storage l, uint256 t) = _select(seed);
        uint256 most = seed & 1024 == 0 ? l.pot + l.pot / 8 : l.pot;
        uint112 payA = uint112(bound(seed >> 20, 0, most));
        uint112 payB = seed & 48 == 0 && payA <= l.pot ? uint112(l.pot - payA) : uint112(bound(seed >> 90, 0, most / 4));
        bytes32 digest = channels.coopDigest(id, channels.channel(id).epoch, payA, payB, NEVER);
        try channels.cooperate(params, payA, payB, NEVER, sign(KEY_A, digest), sign(KEY_B, digest)) {
            if (l.buried || !l.opened || uint256(payA) + payB > l.pot) _fail("payout that is not there");
            l.pot -= uint256(payA) + payB;
            paid[t] += uint256(payA) + payB;
            if (l.pot == 0) (l.buried, l.deadline) = (true, 0);
        } catch {
            if (l.opened && !l.buried && uint256(payA) + payB <= l.pot) _fail("payout refused");
        }
    }

    function submitSome(uint256 seed) external {
        (Ledger storage l,) = _select(seed);
        bytes[2] memory lists;
        IChannels.Halves memory halves = zero();
        if (seed & 7 != 0) {
            lists[0] = _list(seed >> 8);
            lists[1] = _list(seed >> 16);
            halves.a = half(uint64(bound(seed >> 24, 1, 20)), uint112(bound(seed >> 32, 0, 1e18)), lists[0]);
            halves.b = half(uint64(bound(seed >> 96, 1, 20)), uint112(bound(seed >> 104, 0, 1e18)), lists[1]);
        }
        bytes32 digest = channels.snapshotDigest(id, halves);
        bool newer = halves.a.version > l.best[0].version || halves.b.version > l.best[1].version;
        bool allowed = l.opened && !l.buried && (l.deadline == 0 || (newer && now_() < l.deadline));
        vm.prank(seed & (1 << 170) == 0 ? alice : bob);
        try channels.submit(params, halves, lists[0], lists[1], sign2(KEY_A, digest), sign2(KEY_B, digest), 0, "") {
            if (!allowed) _fail("submit that should be refused");
            if (l.deadline == 0) l.deadline = uint64(now_() + 1 hours);
            if (halves.a.version > l.best[0].version) (l.best[0], l.lists[0]) = (halves.a, lists[0]);
            if (halves.b.version > l.best[1].version) (l.best[1], l.lists[1]) = (halves.b, lists[1]);
        } catch {
            if (allowed) _fail("submit refused");
        }
        if (!l.buried && l.deadline != 0) {
            IChannels.Dispute memory d = channels.dispute(id);
            bytes32 expected = keccak256(abi.encode(l.deadline, l.best[0], l.best[1]));
            if (keccak256(abi.encode(d.deadline, d.halves.a, d.halves.b)) != expected) _fail("the newest halves lost");
        }
    }

    /// @dev A prank must meet submit, not this.
    function sign2(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        return sign(key, digest);
    }

    /// @dev Up to three locks; some preimages are revealed at once, some later, some never.
    function _list(uint256 seed) private returns (bytes memory list) {
        for (uint256 i = 0; i < seed % 4; ++i) {
            uint64 expiry = uint64(now_() + bound(seed >> 4, 0, 20 hours));
            list = bytes.concat(list, lock(bytes32(++preimages), uint128(bound(seed >> 8, 1, 1e18)), expiry));
        }
    }

    function revealSome(uint256 seed) external {
        if (preimages == 0) return;
        reveal(bytes32(bound(seed, 1, preimages)));
    }

    function settleSome(uint256 seed) external {
        (Ledger storage l, uint256 t) = _select(seed);
        _settle(l, t, seed & 64 == 0);
    }

    function _settle(Ledger storage l, uint256 t, bool byStranger) private {
        if (byStranger) vm.prank(STRANGER);
        try channels.settle(l.params, l.lists[0], l.lists[1]) {
            if (l.buried || l.deadline == 0 || now_() < l.deadline) _fail("settled too early or twice");
            paid[t] += l.pot;
            (l.pot, l.buried, l.deadline) = (0, true, 0);
        } catch {
            // Some lock can still be won, but no longer than a day.
            if (!l.buried && l.deadline != 0 && now_() > uint256(l.deadline) + 1 days) _fail("settle refused");
        }
    }

    function claimSome(uint256 seed) external {
        address account = seed & 1 == 0 ? COLD_A : address(moody);
        address asset = seed & 2 == 0 ? address(0) : address(token);
        try channels.claimFor(asset, account) {} catch {}
    }

    function turnMoody() external {
        moody.turn();
    }

    function passTime(uint256 seed) external {
        skip(bound(seed >> 8, 1, seed % 4 == 0 ? 5 hours : 20 minutes));
    }

    /// @dev Whatever happened so far: each pot is emptied by one signer's close and a stranger's settle.
    function everyPotIsEmptied() external returns (bool) {
        for (uint256 i = 0; i < COUNT; ++i) {
            Ledger storage l = ledgers[i];
            if (!l.opened || l.buried) continue;
            use(l.params);
            if (l.deadline == 0) {
                vm.prank(bob);
                channels.submit(params, zero(), "", "", "", "", 0, "");
                l.deadline = uint64(now_() + 1 hours);
            }
        }
        skip(1 hours + 1 days + 1);
        for (uint256 i = 0; i < COUNT; ++i) {
            Ledger storage l = ledgers[i];
            if (l.opened && !l.buried) _settle(l, i / 2, true);
        }
        return !broken && pots(0) == 0 && pots(1) == 0 && held(0) == claimable(0) && held(1) == claimable(1);
    }
}

contract ChannelInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    ChannelsHandler private handler;

    function setUp() public {
        handler = new ChannelsHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](8);
        selectors[0] = ChannelsHandler.depositSome.selector;
        selectors[1] = ChannelsHandler.cooperateSome.selector;
        selectors[2] = ChannelsHandler.submitSome.selector;
        selectors[3] = ChannelsHandler.revealSome.selector;
        selectors[4] = ChannelsHandler.settleSome.selector;
        selectors[5] = ChannelsHandler.claimSome.selector;
        selectors[6] = ChannelsHandler.turnMoody.selector;
        selectors[7] = ChannelsHandler.passTime.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @dev The contract holds, to the unit, the pots and what failed payments left; nothing is paid twice.
    function invariant_the_pots_are_conserved() public view {
        vm.assertFalse(handler.broken());
        vm.assertTrue(handler.phases(), "an id lives once");
        for (uint256 t = 0; t < 2; ++t) {
            vm.assertEq(handler.held(t), handler.pots(t) + handler.claimable(t));
            vm.assertEq(handler.pots(t), handler.deposited(t) - handler.paid(t));
        }
    }

    function invariant_every_pot_can_be_emptied() public {
        uint256 snapshot = vm.snapshotState();
        vm.assertTrue(handler.everyPotIsEmptied(), "every pot is emptied");
        vm.revertToState(snapshot);
    }
}
