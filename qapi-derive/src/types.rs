//! Structs, enums, unions and alternates.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Result, Type, Variant};

use crate::attributes::{Member, Qapi};

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let qapi = Qapi::parse(&input.attrs)?;
    match &input.data {
        Data::Struct(data) => object(input, &qapi, data),
        Data::Enum(data) if qapi.alternate => alternate(input, &qapi, data),
        Data::Enum(data) if qapi.tag.is_some() => union_type(input, &qapi, data),
        Data::Enum(data) => enumeration(input, &qapi, data),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "QAPI's unions are enums here")),
    }
}

pub fn expand_event(input: &DeriveInput) -> Result<TokenStream> {
    let (ident, qapi) = (&input.ident, Qapi::parse(&input.attrs)?);
    let name = qapi.event.ok_or_else(|| Error::new_spanned(ident, "#[qapi(event = …)] is missing"))?;
    Ok(quote! {
        impl ::qapi::QapiEvent for #ident {
            const NAME: &'static str = #name;
        }
        ::qapi::private::inventory::submit! {
            ::qapi::EventInfo { name: #name, describe: |schema| schema.reference::<#ident>() }
        }
    })
}

/// The two traits of an object type.
fn object_impls(input: &DeriveInput, qapi: &Qapi, [shape, take, put]: [TokenStream; 3]) -> TokenStream {
    let (ident, name) = (&input.ident, type_name(input, qapi));
    let body = quote! {
        const KIND: ::qapi::Kind = ::qapi::Kind::Object;
        fn type_name() -> String { #name.to_owned() }
        fn describe(schema: &mut ::qapi::Schema) { schema.object::<Self>(); }
        fn from_json(value: ::qapi::private::Value, at: ::qapi::At<'_>) -> ::qapi::private::Result<Self> {
            ::qapi::private::object_from_json(value, at)
        }
        fn to_json(&self) -> ::qapi::private::Value { ::qapi::private::object_to_json(self) }
    };
    quote! {
        impl ::qapi::QapiType for #ident { #body }
        impl ::qapi::QapiObject for #ident {
            #[allow(unused_variables, unused_mut)]
            fn shape(schema: &mut ::qapi::Schema) -> ::qapi::Shape {
                let mut shape = ::qapi::Shape::default();
                #shape
                shape
            }
            #[allow(unused_variables)]
            fn take(
                map: &mut ::qapi::private::Map<String, ::qapi::private::Value>,
                at: ::qapi::At<'_>,
            ) -> ::qapi::private::Result<Self> {
                #take
            }
            #[allow(unused_variables)]
            fn put(&self, map: &mut ::qapi::private::Map<String, ::qapi::private::Value>) {
                #put
            }
        }
    }
}

fn type_name(input: &DeriveInput, qapi: &Qapi) -> String {
    qapi.name.clone().unwrap_or_else(|| input.ident.to_string())
}

fn object(input: &DeriveInput, qapi: &Qapi, data: &DataStruct) -> Result<TokenStream> {
    let mut members = Vec::new();
    for field in &data.fields {
        let Some(ident) = field.ident.clone() else {
            return Err(Error::new_spanned(field, "members have names"));
        };
        members.push(Member { ident, qapi: Qapi::parse(&field.attrs)?, whole: field.ty.clone() });
    }
    let shape: TokenStream = members.iter().map(Member::describe).collect();
    let fields = members.iter().map(|member| {
        let (ident, take) = (&member.ident, member.take());
        quote! { #ident: #take }
    });
    let take = quote! { Ok(Self { #(#fields),* }) };
    let put = members.iter().map(Member::put).collect();
    Ok(object_impls(input, qapi, [shape, take, put]))
}

/// `HostError` → `host-error`
fn kebab(ident: &syn::Ident) -> String {
    let mut name = String::new();
    for c in ident.to_string().chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The variants with their QAPI names.
fn named(data: &DataEnum) -> Result<Vec<(&Variant, String)>> {
    data.variants
        .iter()
        .map(|v| Ok((v, Qapi::parse(&v.attrs)?.name.unwrap_or_else(|| kebab(&v.ident)))))
        .collect()
}

fn enumeration(input: &DeriveInput, qapi: &Qapi, data: &DataEnum) -> Result<TokenStream> {
    let (ident, name, variants) = (&input.ident, type_name(input, qapi), named(data)?);
    if let Some((variant, _)) = variants.iter().find(|(v, _)| !matches!(v.fields, Fields::Unit)) {
        return Err(Error::new_spanned(variant, "an enum with data needs #[qapi(tag = …)] or alternate"));
    }
    let texts: Vec<_> = variants.iter().map(|(_, text)| text).collect();
    let idents: Vec<_> = variants.iter().map(|(v, _)| &v.ident).collect();
    Ok(quote! {
        impl #ident {
            /// QAPI's name of the value.
            pub fn as_str(&self) -> &'static str {
                match self { #(Self::#idents => #texts),* }
            }
        }
        impl ::qapi::QapiType for #ident {
            const KIND: ::qapi::Kind = ::qapi::Kind::Str;
            fn type_name() -> String { #name.to_owned() }
            fn describe(schema: &mut ::qapi::Schema) { schema.enumeration(#name, &[#(#texts),*]); }
            fn from_json(
                value: ::qapi::private::Value,
                at: ::qapi::At<'_>,
            ) -> ::qapi::private::Result<Self> {
                let text = <String as ::qapi::QapiType>::from_json(value, at)?;
                match text.as_str() {
                    #(#texts => Ok(Self::#idents),)*
                    _ => Err(at.not_accepted(&text)),
                }
            }
            fn to_json(&self) -> ::qapi::private::Value { self.as_str().into() }
        }
    })
}

/// What a variant holds: one type, or nothing.
fn content(variant: &Variant) -> Result<Option<&Type>> {
    match &variant.fields {
        Fields::Unit => Ok(None),
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(fields.unnamed.first().map(|f| &f.ty)),
        other => Err(Error::new_spanned(other, "a variant holds one type or nothing")),
    }
}

fn union_type(input: &DeriveInput, qapi: &Qapi, data: &DataEnum) -> Result<TokenStream> {
    let tag = qapi.tag.clone().unwrap_or_default();
    let tag_type = qapi.tag_type.clone().unwrap_or_else(|| format!("{}Kind", type_name(input, qapi)));
    let variants = named(data)?;
    let texts: Vec<_> = variants.iter().map(|(_, text)| text).collect();
    let (mut shapes, mut takes, mut puts) = (Vec::new(), Vec::new(), Vec::new());
    for (variant, text) in &variants {
        let ident = &variant.ident;
        if let Some(of) = content(variant)? {
            shapes.push(quote! {
                let type_id = schema.reference::<#of>();
                shape.variants.push(::qapi::Variant { case: #text.to_owned(), type_id });
            });
            takes.push(quote! { #text => Ok(Self::#ident(<#of as ::qapi::QapiObject>::take(map, at)?)) });
            puts.push(quote! {
                Self::#ident(content) => { ::qapi::QapiObject::put(content, map); #text }
            });
        } else {
            shapes.push(quote! {
                let type_id = schema.empty();
                shape.variants.push(::qapi::Variant { case: #text.to_owned(), type_id });
            });
            takes.push(quote! { #text => Ok(Self::#ident) });
            puts.push(quote! { Self::#ident => #text });
        }
    }
    let shape = quote! {
        shape.members.push(schema.tag(#tag_type, #tag, &[#(#texts),*]));
        shape.tag = Some(#tag.to_owned());
        #(#shapes)*
    };
    let take = quote! {
        let tag = ::qapi::private::take_member::<String>(map, #tag, at)?;
        match tag.as_str() {
            #(#takes,)*
            _ => Err(::qapi::At::Member(&at, #tag).not_accepted(&tag)),
        }
    };
    let put = quote! {
        let tag = match self { #(#puts),* };
        map.insert(#tag.to_owned(), tag.into());
    };
    Ok(object_impls(input, qapi, [shape, take, put]))
}

fn alternate(input: &DeriveInput, qapi: &Qapi, data: &DataEnum) -> Result<TokenStream> {
    let (ident, name) = (&input.ident, type_name(input, qapi));
    let (mut types, mut idents) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        let none = || Error::new_spanned(variant, "an alternate's variant holds one type");
        types.push(content(variant)?.ok_or_else(none)?);
        idents.push(&variant.ident);
    }
    Ok(quote! {
        impl ::qapi::QapiType for #ident {
            const KIND: ::qapi::Kind = ::qapi::Kind::Any;
            fn type_name() -> String { #name.to_owned() }
            fn describe(schema: &mut ::qapi::Schema) {
                schema.alternate(#name, |schema| vec![#(schema.reference::<#types>()),*]);
            }
            fn from_json(
                value: ::qapi::private::Value,
                at: ::qapi::At<'_>,
            ) -> ::qapi::private::Result<Self> {
                #(if <#types as ::qapi::QapiType>::KIND.matches(&value) {
                    return <#types as ::qapi::QapiType>::from_json(value, at).map(Self::#idents);
                })*
                Err(at.invalid_type(#name))
            }
            fn to_json(&self) -> ::qapi::private::Value {
                match self { #(Self::#idents(content) => ::qapi::QapiType::to_json(content)),* }
            }
        }
    })
}
