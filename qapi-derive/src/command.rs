//! Commands.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Error, FnArg, Ident, ItemFn, LitStr, Pat, Result, ReturnType, Token, Type};

use crate::attributes::{self, Member, Qapi, argument_of};

/// `"query-status", oob, preconfig, features("unstable")`
pub struct Options {
    name: LitStr,
    oob: bool,
    preconfig: bool,
    features: Vec<LitStr>,
}

impl Parse for Options {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut options = Self { name: input.parse()?, oob: false, preconfig: false, features: Vec::new() };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            let key: Ident = input.parse()?;
            match key.to_string().as_str() {
                "oob" => options.oob = true,
                "preconfig" => options.preconfig = true,
                "features" => options.features = attributes::features(input)?,
                _ => return Err(Error::new_spanned(key, "unknown option of a command")),
            }
        }
        Ok(options)
    }
}

/// The parameters; their attributes, which Rust does not know, are taken off.
fn parameters(function: &mut ItemFn) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for input in &mut function.sig.inputs {
        let FnArg::Typed(argument) = input else {
            return Err(Error::new_spanned(input, "a command is no method"));
        };
        let Pat::Ident(name) = &*argument.pat else {
            return Err(Error::new_spanned(&argument.pat, "an argument has a name"));
        };
        let qapi = Qapi::parse(&argument.attrs)?;
        members.push(Member { ident: name.ident.clone(), qapi, whole: (*argument.ty).clone() });
        argument.attrs.clear();
    }
    Ok(members)
}

fn answer(function: &ItemFn) -> Result<&Type> {
    let found = match &function.sig.output {
        ReturnType::Type(_, of) => argument_of("Result", of),
        ReturnType::Default => None,
    };
    found.ok_or_else(|| Error::new_spanned(&function.sig, "a command gives a Result"))
}

pub fn expand(options: Options, mut function: ItemFn) -> Result<TokenStream> {
    let Options { name, oob, preconfig, features } = options;
    let members = parameters(&mut function)?;
    let answer = answer(&function)?;
    let (ident, doc) = (&function.sig.ident, attributes::doc(&function.attrs));
    let values: Vec<_> = (0..members.len()).map(|n| format_ident!("argument{n}")).collect();
    let takes = members.iter().map(Member::take);
    let rest = members.iter().any(|member| member.qapi.rest);
    let check = if rest {
        quote! {}
    } else {
        quote! { ::qapi::private::no_more_arguments(map)?; }
    };
    let describe_answer = match answer {
        Type::Tuple(tuple) if tuple.elems.is_empty() => quote! { schema.empty() },
        other => quote! { schema.reference::<#other>() },
    };
    let describe_arguments = if members.is_empty() {
        quote! { schema.empty() }
    } else {
        let type_name = format!("q_obj_{}-arg", name.value());
        let shape: TokenStream = members.iter().map(Member::describe).collect();
        quote! {
            schema.object_of(#type_name, |schema| {
                let mut shape = ::qapi::Shape::default();
                #shape
                shape
            })
        }
    };
    Ok(quote! {
        #function
        const _: () = {
            #[allow(unused_mut, unused_variables)]
            fn run(
                mut arguments: ::qapi::private::Map<String, ::qapi::private::Value>,
            ) -> ::qapi::private::Result<::qapi::private::Value> {
                let (map, at) = (&mut arguments, ::qapi::At::Top);
                #(let #values = #takes;)*
                #check
                let answer = #ident(#(#values),*)?;
                Ok(::qapi::QapiType::to_json(&answer))
            }
            fn describe(schema: &mut ::qapi::Schema) -> (String, String) {
                let arguments = #describe_arguments;
                let answer = #describe_answer;
                (arguments, answer)
            }
            ::qapi::private::inventory::submit! {
                ::qapi::Command {
                    name: #name,
                    doc: #doc,
                    options: ::qapi::CommandOptions { allow_oob: #oob, allow_preconfig: #preconfig },
                    features: &[#(#features),*],
                    run,
                    describe,
                }
            }
        };
    })
}
