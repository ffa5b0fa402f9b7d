//! Making wallets and showing addresses.

use super::{Context, ask, keys_failure, keystore_failure, pay_failure};
use crate::cli::{Exit, Failure};
use crate::output::facts;
use crate::wallet::keys::{KeySource, Phrase, UserKeys};
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Options of `millrace wallet new`.
#[derive(Debug, clap::Args)]
pub struct NewArguments {
    /// Print the recovery phrase even where stdout is no terminal; with --json, in the result
    #[arg(long)]
    pub show_phrase: bool,
}

/// Options of `millrace wallet import`.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// File with the recovery phrase; without it, MILLRACE_MNEMONIC, or stdin
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_file")]
    pub phrase_file: Option<PathBuf>,
    /// File with an L1 private key instead; its signature makes the rollup key
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Addresses {
    number: u32,
    payment_address: String,
    l1_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phrase: Option<String>,
}

impl Addresses {
    fn new(keys: &UserKeys) -> Self {
        Self {
            number: keys.number,
            payment_address: keys.owner().to_string(),
            l1_address: keys.l1.address().to_string(),
            phrase: None,
        }
    }

    fn describe(&self) -> String {
        facts([
            ("payment address", self.payment_address.clone()),
            ("L1 address", self.l1_address.clone()),
        ])
    }
}

/// Makes a wallet with a new phrase.
pub(super) fn new(context: &Context, arguments: &NewArguments) -> Result<(), Failure> {
    let shown = arguments.show_phrase || (!context.output.json && std::io::stdout().is_terminal());
    if !shown {
        return Err(
            Failure::new(Exit::Usage, "the recovery phrase would be shown to nobody")
                .help("run it on a terminal, or pass --show-phrase and keep its output safe"),
        );
    }
    let phrase = Phrase::generate();
    let source = KeySource::Phrase(phrase.clone());
    create(context, &source)?;
    let keys = source
        .keys(context.options.number, None)
        .map_err(keys_failure)?;
    let mut addresses = Addresses::new(&keys);
    addresses.phrase = Some(phrase.words().to_string());
    context.output.result(&addresses, || {
        format!(
            "Write these words down, in order, on paper. Whoever has them has the money; without them nobody can help.\n\n  \
             {}\n\n{}",
            *phrase.words(),
            addresses.describe()
        )
    });
    Ok(())
}

/// Makes a wallet from a phrase or private key.
pub(super) async fn import(context: &Context, arguments: &ImportArguments) -> Result<(), Failure> {
    let source = match &arguments.private_key_file {
        Some(path) => KeySource::from_private_key(&read(path)?).map_err(keys_failure)?,
        None => KeySource::Phrase(Phrase::parse(&phrase(arguments)?).map_err(keys_failure)?),
    };
    create(context, &source)?;
    let l1_address = source
        .l1_key(context.options.number)
        .map_err(keys_failure)?
        .address();
    match source {
        KeySource::Phrase(_) => show(
            context,
            &source
                .keys(context.options.number, None)
                .map_err(keys_failure)?,
        ),
        KeySource::L1Key(_) => {
            let result = serde_json::json!({ "l1_address": l1_address });
            context
                .output
                .result(&result, || facts([("L1 address", l1_address.to_string())]));
        }
    }
    Ok(())
}

fn phrase(arguments: &ImportArguments) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = &arguments.phrase_file {
        return read(path);
    }
    if let Ok(words) = std::env::var("MILLRACE_MNEMONIC") {
        return Ok(Zeroizing::new(words));
    }
    if std::io::stdin().is_terminal() {
        return ask("Recovery phrase: ");
    }
    let mut words = Zeroizing::new(String::new());
    std::io::stdin()
        .read_to_string(&mut words)
        .map_err(|error| {
            Failure::because(Exit::Keys, "the recovery phrase cannot be read", &error)
        })?;
    Ok(words)
}

fn read(path: &std::path::Path) -> Result<Zeroizing<String>, Failure> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            Failure::because(
                Exit::Keys,
                format!("cannot read {}", path.display()),
                &error,
            )
        })
}

fn create(context: &Context, source: &KeySource) -> Result<(), Failure> {
    context.create_folder()?;
    let keystore = context.keystore();
    if keystore.exists() {
        let path = keystore.path().to_owned();
        return Err(keystore_failure(crate::wallet::KeystoreError::Exists(path)));
    }
    let password = context.password("New password: ")?;
    let asked =
        context.options.password_file.is_none() && std::env::var_os("MILLRACE_PASSWORD").is_none();
    if asked && ask("The same again: ")? != password {
        return Err(Failure::new(Exit::Keys, "the two passwords differ"));
    }
    keystore.create(source, &password).map_err(keystore_failure)
}

/// Shows the addresses. Of an imported L1 key, the payment address needs the rollup.
pub(super) async fn address(context: &Context) -> Result<(), Failure> {
    let source = context.source()?;
    let keys = match source {
        KeySource::Phrase(_) => source
            .keys(context.options.number, None)
            .map_err(keys_failure)?,
        KeySource::L1Key(_) => {
            let rollup = context.rollup().await?;
            source
                .keys(context.options.number, Some(rollup))
                .map_err(keys_failure)?
        }
    };
    if let Some(pinned) = context.pinned()? {
        let rollup = crate::wallet::RollupIdentity {
            chain_id: pinned.chain_id,
            contract: pinned.contract,
        };
        let mut wallet = crate::wallet::payments::Wallet::open(&context.folder, source, rollup)
            .map_err(pay_failure)?;
        wallet.keys(context.options.number).map_err(pay_failure)?;
    }
    show(context, &keys);
    Ok(())
}

fn show(context: &Context, keys: &UserKeys) {
    let addresses = Addresses::new(keys);
    context.output.result(&addresses, || addresses.describe());
}
