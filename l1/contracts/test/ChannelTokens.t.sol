// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsTest} from "./utils/ChannelsTest.sol";
import {Channels} from "../src/Channels.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";
import {FeeToken, HookToken, MoodyToken, SilentToken, TestToken} from "./mocks/Tokens.sol";

/// @dev Does not move money to or from some addresses, as USDC does.
contract BlockingToken is TestToken {
    mapping(address account => bool) public blocked;

    function setBlocked(address account, bool blocked_) external {
        blocked[account] = blocked_;
    }

    function _move(address from, address to, uint256 value) internal override {
        require(!blocked[from] && !blocked[to], "blocked");
        super._move(from, to, value);
    }
}

/// @dev Gives more than it was asked to take.
contract GenerousToken is TestToken {
    function _move(address from, address to, uint256 value) internal override {
        super._move(from, to, value);
        balanceOf[to] += value;
    }
}

/// @dev A receiver in a mood: 0 takes, 1 reverts, 2 burns all gas, 3 reverts with a megabyte, 4 calls back.
contract Wallet {
    uint256 public mood;
    Channels private channels;
    bytes private call;
    bytes public reason;

    function setMood(uint256 mood_) external {
        mood = mood_;
    }

    function setCall(Channels channels_, bytes calldata call_) external {
        (channels, call, mood) = (channels_, call_, 4);
    }

    function claim(Channels channels_, address token, address to) external {
        channels_.claim(token, to);
    }

    receive() external payable {
        uint256 mood_ = mood;
        assembly ("memory-safe") {
            switch mood_
            case 1 { revert(0, 0) }
            case 2 { invalid() }
            case 3 { revert(0, 1000000) }
        }
        if (mood_ == 4) {
            (, bytes memory data) = address(channels).call(call);
            reason = data;
        }
    }
}

/// @title Tokens and receivers that misbehave: they hurt themselves and nobody else
contract ChannelTokensTest is ChannelsTest {
    function _tokenFailed(address token) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IRollup.TokenCallFailed.selector, token);
    }

    function _refusedDeposit(bytes memory reason) private {
        vm.prank(alice);
        vm.expectRevert(reason);
        channels.deposit(params, false, 1000);
    }

    function test_a_plain_token_goes_in_and_out() public {
        useToken(new TestToken());
        fund(1000, 500);
        submitBy(alice, halvesOf(1, 100, 1, 30));
        skip(1 days);
        settle();
        paidOut(930, 570);
        vm.assertEq(held(address(channels)), 0);
    }

    function test_a_token_that_returns_nothing_works() public {
        useToken(new SilentToken());
        fund(1000, 500);
        cooperate(700, 800);
        paidOut(700, 800);
    }

    function test_a_token_with_a_fee_is_credited_by_what_arrives() public {
        useToken(new FeeToken());
        fund(1000, 500);
        vm.assertEq(channels.channel(id).netA, 990);
        vm.assertEq(channels.channel(id).netB, 495);
        cooperate(990, 495);
        isIn(IChannels.Phase.Closed);
        vm.assertEq(held(address(channels)), 0);
    }

    function test_a_token_that_brings_more_is_credited_and_capped() public {
        useToken(new GenerousToken());
        depositBy(alice, false, 10);
        vm.assertEq(channels.channel(id).netA, 20);
        bytes4 selector = IChannels.PotTooLarge.selector;
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(selector, 2 ** 100 - 1, 2 ** 100));
        channels.deposit(params, true, 2 ** 99);
    }

    function test_an_address_without_code_is_no_token_until_it_has_some() public {
        IChannels.Params memory p = params;
        p.token = address(0x70CE);
        use(p);
        _refusedDeposit(_tokenFailed(p.token));
        vm.etch(p.token, address(new TestToken()).code);
        useToken(TestToken(p.token));
        fund(1000, 500);
        vm.etch(p.token, ""); // and if it goes away, what is paid is claimable
        cooperate(1000, 500);
        vm.assertEq(channels.claimable(p.token, COLD_A), 1000);
        vm.assertEq(channels.claimable(p.token, COLD_B), 500);
    }

    function test_a_token_that_fails_to_be_taken_opens_nothing() public {
        MoodyToken token = new MoodyToken();
        useToken(token);
        for (uint256 mode = 1; mode <= 6; ++mode) {
            if (mode == 4) continue;
            token.setMode(mode);
            vm.prank(alice);
            (bool ok,) = address(channels).call{gas: 5_000_000}(abi.encodeCall(channels.deposit, (params, false, 10)));
            vm.assertFalse(ok);
            isIn(IChannels.Phase.None);
        }
        token.setMode(1);
        _refusedDeposit(_tokenFailed(address(token)));
    }

    /// @dev Returns false, reverts with a huge reason, returns a bomb, burns all gas, returns 2, returns 31 bytes.
    function test_a_token_that_fails_to_pay_leaves_claims() public {
        for (uint256 mode = 1; mode <= 6; ++mode) {
            MoodyToken token = new MoodyToken();
            useToken(token);
            fund(1000, 500);
            token.setMode(mode);
            vm.expectEmit(address(channels));
            emit IChannels.Claimable(address(token), COLD_A, 400);
            cooperate(400, 600);
            paidOut(0, 0);
            vm.prank(COLD_A);
            (bool ok,) =
                address(channels).call{gas: 1_000_000}(abi.encodeCall(channels.claim, (address(token), COLD_A)));
            vm.assertFalse(ok);
            vm.assertEq(channels.claimable(address(token), COLD_A), 400);
            token.setMode(0);
            vm.prank(COLD_A);
            vm.assertEq(channels.claim(address(token), alice), 400);
            vm.prank(STRANGER);
            vm.assertEq(channels.claimFor(address(token), COLD_B), 600);
            paidOut(0, 600);
            vm.assertEq(held(address(channels)), 500);
        }
    }

    function test_a_blocked_side_does_not_block_the_other() public {
        BlockingToken token = new BlockingToken();
        useToken(token);
        fund(1000, 500);
        token.setBlocked(COLD_A, true);
        submitBy(bob, halvesOf(1, 100, 1, 0));
        skip(1 days);
        settle();
        paidOut(0, 600);
        vm.assertEq(channels.claimable(address(token), COLD_A), 900);
        vm.expectRevert(abi.encodeWithSelector(IChannels.PaymentFailed.selector, address(token), COLD_A));
        channels.claimFor(address(token), COLD_A);
        vm.prank(COLD_A);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ReceiverIsZero.selector));
        channels.claim(address(token), address(0));
        vm.prank(COLD_A);
        vm.expectEmit(address(channels));
        emit IChannels.Claimed(address(token), COLD_A, STRANGER, 900);
        channels.claim(address(token), STRANGER);
        vm.prank(COLD_A);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NothingToClaim.selector, address(token), COLD_A));
        channels.claim(address(token), STRANGER);
    }

    /// @dev A token calls back in the middle of a deposit and of a payout, into each function: the lock refuses it.
    function test_a_token_that_calls_back_finds_the_lock() public {
        HookToken token = new HookToken();
        useToken(token);
        IChannels.Params memory p = params;
        bytes[7] memory calls = [
            abi.encodeCall(channels.deposit, (p, true, 1)),
            abi.encodeCall(channels.cooperate, (p, 0, 0, NEVER, "", "")),
            abi.encodeCall(channels.submit, (p, zero(), "", "", "", "", 0, "")),
            abi.encodeCall(channels.settle, (p, "", "")),
            abi.encodeCall(channels.reveal, (new bytes32[](1))),
            abi.encodeCall(channels.claim, (address(token), STRANGER)),
            abi.encodeCall(channels.claimFor, (address(token), STRANGER))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            token.setHook(address(channels), calls[i]);
            depositBy(alice, false, 10);
            _sawTheLock(token.lastReturn());
            cooperate(1, 0);
            _sawTheLock(token.lastReturn());
        }
        vm.assertEq(channels.channel(id).netA, int256(7 * 9));
    }

    function _sawTheLock(bytes memory answer) private pure {
        vm.assertEq(keccak256(answer), keccak256(abi.encodeWithSelector(IChannels.Reentered.selector)));
    }

    // ------------------------------------------------------------------------------------------------ ETH

    function _payToWallet(Wallet wallet) private {
        IChannels.Params memory p = params;
        p.payoutA = address(wallet);
        use(p);
        fund(1000, 500);
    }

    function test_a_wallet_that_refuses_does_not_block_the_other_side() public {
        for (uint256 mood = 1; mood <= 3; ++mood) {
            Wallet wallet = new Wallet();
            _payToWallet(wallet);
            wallet.setMood(mood);
            cooperate(400, 1100);
            vm.assertEq(COLD_B.balance, 1100 * mood);
            vm.assertEq(channels.claimable(address(0), address(wallet)), 400);
            vm.expectRevert();
            channels.claimFor{gas: 1_000_000}(address(0), address(wallet));
            vm.expectRevert(abi.encodeWithSelector(IChannels.PaymentFailed.selector, address(0), address(channels)));
            wallet.claim(channels, address(0), address(channels));
            wallet.claim(channels, address(0), address(0xFEED));
            vm.assertEq(address(0xFEED).balance, 400 * mood);
        }
    }

    function test_a_wallet_that_calls_back_is_paid_once() public {
        Wallet wallet = new Wallet();
        _payToWallet(wallet);
        vm.prank(bob);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        skip(1 days);
        wallet.setCall(channels, abi.encodeCall(channels.settle, (params, "", "")));
        settle();
        _sawTheLock(wallet.reason());
        vm.assertEq(address(wallet).balance, 1000);
        vm.assertEq(COLD_B.balance, 500);
    }

    /// @dev A caller cannot turn a payment into a claim by sending little gas: with any limit all is done, or nothing.
    function test_little_gas_pays_all_or_reverts() public {
        Wallet wallet = new Wallet();
        _payToWallet(wallet);
        bytes32 digest = channels.coopDigest(id, 0, 400, 1100, NEVER);
        bytes memory call_ =
            abi.encodeCall(channels.cooperate, (params, 400, 1100, NEVER, sign(KEY_A, digest), sign(KEY_B, digest)));
        uint256 snapshot = vm.snapshotState();
        uint256 refused = 0;
        for (uint256 gas_ = 60_000; gas_ <= 480_000; gas_ += 20_000) {
            (bool ok,) = address(channels).call{gas: gas_}(call_);
            vm.assertEq(channels.claimable(address(0), address(wallet)), 0);
            if (ok) {
                vm.assertEq(address(wallet).balance, 400);
                vm.assertEq(COLD_B.balance, 1100);
            } else {
                ++refused;
                isIn(IChannels.Phase.Open);
            }
            vm.revertToState(snapshot);
        }
        vm.assertTrue(refused > 5 && refused < 22);
    }
}
