//! The macros of the crate `qapi`; see there for what they are for.
//!
//! `#[derive(QapiType)]`, on
//! - a struct: an object type. A field of type `Option<T>` is an optional member. `#[qapi(flatten)]` on a field adds
//!   the members of its type, a struct or a union, to the object itself;
//! - an enum without data: an enum;
//! - an enum with `#[qapi(tag = "driver")]`: a union. Each variant holds the struct of its further members, or nothing. Flattened
//!   into a struct, it gets the members that all variants share. `tag_type = "BlockdevDriver"` names the enum of its tag;
//! - an enum with `#[qapi(alternate)]`: an alternate. Each variant holds one type, told apart by what JSON makes of it.
//!
//! Names are the Rust ones with `-` between words; `#[qapi(name = "x")]` on a type, field, variant or parameter gives another.
//! `#[qapi(features("deprecated"))]` on a field or parameter tells clients more.
//!
//! `#[derive(QapiEvent)]` with `#[qapi(event = "SHUTDOWN")]`, beside `QapiType`, on a struct: an event with that data.
//!
//! `#[command("name")]` on a function that gives a `qom::Result`: a command. Its parameters are the arguments.
//! After the name may follow `oob`, `preconfig` and `features("…")`. `#[qapi(flatten)]` on a parameter takes all members of
//! its type; `#[qapi(rest)]` on one of type `Map<String, Value>` takes whatever other members are given.
#![forbid(unsafe_code)]

mod attributes;
mod command;
mod types;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

/// Makes a struct or enum a type of the QAPI schema.
#[proc_macro_derive(QapiType, attributes(qapi))]
pub fn derive_type(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    types::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct that derives `QapiType` the data of an event.
#[proc_macro_derive(QapiEvent, attributes(qapi))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    types::expand_event(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function a command.
#[proc_macro_attribute]
pub fn command(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(arguments as command::Options);
    let function = parse_macro_input!(item as ItemFn);
    command::expand(options, function).unwrap_or_else(syn::Error::into_compile_error).into()
}
